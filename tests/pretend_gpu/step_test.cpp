// Training on the pretend GPU, by the real program: what a step has host and device do to each
// other.
#include <fstream>
#include <map>

#include "tests/train/layout_matrix.h"

namespace lorikeet {
namespace {

using namespace train_testing;

using Touches = std::map<std::string, int64_t>;

const std::vector<Layout> kOfTwo = {{2, 1, 0}, {1, 2, 1}, {1, 2, 2}, {1, 2, 3}};

class PretendGpuRun : public LayoutMatrix {
 protected:
  PretendGpuRun() {
    const auto folder = std::filesystem::path(program()).parent_path();
    ::setenv("LD_LIBRARY_PATH", folder.c_str(), 1);
  }

  static Settings on_gpu() { return {"train.device=cuda"}; }

  /// A run of so many steps, of which nothing but the last is logged. @return by rank
  std::vector<Touches> touches_of_run(const Layout& layout, Settings settings, int64_t steps) {
    const std::string name = fmt::format("steps_{}", steps), report = folder_ / (name + ".touches");
    ::setenv("LORIKEET_PRETEND_GPU_REPORT", report.c_str(), 1);
    settings = on_gpu() + settings +
               Settings{fmt::format("train.steps={}", steps), "log.every=1000steps",
                        "checkpoint.every=never"};
    finish_ranks(name, layout, settings);
    std::filesystem::remove_all(folder_ / name);
    std::vector<Touches> all;
    for (int rank = 0; rank < layout.size(); ++rank) {
      all.push_back(read(fmt::format("{}_{}", report, rank)));
    }
    return all;
  }

  static Touches read(const std::string& report) {
    Touches touches;
    std::ifstream file(report);
    EXPECT_TRUE(file) << report;
    int64_t count = 0;
    for (std::string what; file >> count && file.get() && std::getline(file, what);) {
      touches[what] = count;
    }
    return touches;
  }

  /// What four more steps add is one reading each, of the numbers of all ranks, by add_over_ranks.
  void expect_one_reading_a_step(const Layout& layout, const Settings& settings) {
    const auto few = touches_of_run(layout, settings, 2);
    const auto many = touches_of_run(layout, settings, 6);
    ASSERT_EQ(few.size(), many.size());
    for (size_t rank = 0; rank < few.size(); ++rank) {
      Touches more;
      for (const auto& [what, count] : many[rank]) {
        const auto found = few[rank].find(what);
        const int64_t added = count - (found == few[rank].end() ? 0 : found->second);
        if (added != 0) more[what] = added;
      }
      const Touches expected = {{fmt::format("to the host: Double [{}]", 10 * layout.size()), 4}};
      EXPECT_EQ(more, expected) << "rank " << rank;
    }
  }
};

TEST_F(PretendGpuRun, GivesTheLossesOfTheCpu) {
  // Sums in another order; in bf16 other roundings.
  const std::vector<std::pair<std::string, double>> precisions = {{"fp32", 1e-4}, {"bf16", 2e-2}};
  for (const auto& [precision, bound] : precisions) {
    const Settings settings = {"train.precision=" + precision};
    finish("cpu_" + precision, settings);
    finish("gpu_" + precision, on_gpu() + settings);
    expect_near_course("cpu_" + precision, "gpu_" + precision, bound);
  }
}

/// Collectives are ours by NCCL's name, one stream each beside the computation's.
TEST_F(PretendGpuRun, OfTwoGivesTheLossesOfOneInEveryLayout) {
  const Settings settings = on_gpu() + small_steps() + Settings{"train.batch_sequences=2"};
  finish("one", settings);
  for (const Layout& layout : kOfTwo) {
    const std::string name = fmt::format("two_{}_{}", layout.shard, layout.zero);
    finish_ranks(name, layout, settings);
    expect_near_course("one", name, 1e-4);
  }
}

class SlowPretendGpuRun : public PretendGpuRun {};
TEST_F(SlowPretendGpuRun, OfFourGivesTheLossesOfOneInEveryLayoutAndModel) {
  expect_all_near_one_process(4, on_gpu());
}

TEST_F(PretendGpuRun, GoesOnFromACheckpointAsOneRun) {
  const Settings settings = on_gpu() + slow_steps() + small_steps() +
                            Settings{"train.batch_sequences=2", "train.steps=15"};
  for (const Layout& layout : {Layout{1, 1, 0}, Layout{1, 2, 3}}) {
    const std::string straight = fmt::format("straight_{}", layout.size());
    const std::string stopped = fmt::format("stopped_{}", layout.size());
    finish_ranks(straight, layout, settings);
    stop_ranks(stopped, layout, settings, 5, /*stopped_rank=*/layout.size() - 1);
    finish_ranks(stopped, layout, settings);
    expect_same_course(straight, stopped);
  }
}

TEST_F(PretendGpuRun, ReadsTheDeviceOnceAStep) {
  const std::vector<Settings> models = {
      {},
      {"train.precision=bf16"},
      {"model.feed_forward.kind=dense", "model.tie_embeddings=true"},
      {"model.feed_forward.routing=sequence", "train.activation_checkpointing=block"},
      {"model.feed_forward.routing=prefix", "train.activation_checkpointing=ffn"},
      {"model.feed_forward.segment_scope=document", "model.feed_forward.first_segment=learned",
       "model.attention_scope=document", "optimizer.clip_norm=0.01"}};
  for (const Settings& settings : models) {
    SCOPED_TRACE(::testing::PrintToString(settings));
    expect_one_reading_a_step({}, settings);
  }
}

TEST_F(PretendGpuRun, OfTwoReadsTheDeviceOnceAStepInEveryLayout) {
  for (const Layout& layout : kOfTwo) {
    SCOPED_TRACE(fmt::format("shard {} zero {}", layout.shard, layout.zero));
    expect_one_reading_a_step(layout, {});
  }
}

}  // namespace
}  // namespace lorikeet
