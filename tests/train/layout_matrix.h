// Every layout of some ranks over every kind of model.
#pragma once
#include "tests/train/ranks.h"

namespace lorikeet::train_testing {

/// Models and settings whose layouts must not change them.
inline const std::vector<std::pair<std::string, Settings>>& models() {
  static const std::vector<std::pair<std::string, Settings>> all = {
      {"dense", {"model.feed_forward.kind=dense"}},
      {"causal", {}},
      {"prefix", {"model.feed_forward.routing=prefix"}},
      {"sequence", {"model.feed_forward.routing=sequence"}},
      {"learned", {"model.feed_forward.first_segment=learned"}},
      {"document",
       {"model.feed_forward.segment_scope=document", "model.feed_forward.first_segment=learned"}},
      {"tied", {"model.tie_embeddings=true"}},
      {"block", {"train.activation_checkpointing=block"}},
      {"ffn", {"train.activation_checkpointing=ffn"}},
      {"bf16", {"train.precision=bf16"}},
      {"noclip", {"optimizer.clip_norm=0"}},
      {"warmup", {"train.dense_warmup=3steps"}},
      {"keep", {"train.dense_warmup=3steps", "train.dense_warmup_optimizer=keep"}}};
  return all;
}

inline std::string name_of(const std::string& model, const Layout& layout) {
  return fmt::format("{}_{}_{}_{}", model, layout.replicate, layout.shard, layout.zero);
}

class LayoutMatrix : public RanksProgram {
 protected:
  /// On GPUs, where sums are NCCL's: near the losses of one process, not equal.
  void expect_all_near_one_process(int size, const Settings& settings) {
    std::vector<Layout> layouts = {{size, 1, 0}, {1, size, 1}, {1, size, 2}, {1, size, 3}};
    if (size > 2) layouts.push_back({2, size / 2, 3});
    for (const auto& [model, of_model] : models()) {
      const Settings all = small_steps() + of_model + settings +
                           Settings{"train.steps=6", fmt::format("train.batch_sequences={}", size)};
      finish(model, all);
      for (const Layout& layout : layouts) {
        const std::string name = name_of(model, layout);
        SCOPED_TRACE(name);
        finish_ranks(name, layout, all);
        expect_near_course(model, name, model == "bf16" ? 2e-2 : 1e-4);
      }
    }
  }
};

}  // namespace lorikeet::train_testing
