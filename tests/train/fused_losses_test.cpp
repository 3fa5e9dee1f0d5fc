// 200 steps of training by the fast operators against the plain statements of the same model.
#include <cmath>
#include <map>

#include "lorikeet/checkpoint/checkpoint.h"
#include "tests/train/program.h"

namespace lorikeet {
namespace {

using namespace train_testing;

/// A model, and how far a loss of the one path may be from that of the other.
struct Case {
  const char* name;
  Settings settings;
  double each;  ///< nats, of any step
  double mean;  ///< nats, of all steps together
};

// More than a key block of attention, 64 tokens at least for the tiled dense layer, a loss in two
// chunks, two micro-batches.
const Settings kModel{"model.hidden_size=48",     "model.ffn_size=128",
                      "model.context_length=96",  "model.feed_forward.segment_length=32",
                      "train.batch_sequences=32", "train.micro_batch=16",
                      "optimizer.clip_norm=1",    "schedule.peak=3e-3",
                      "model.num_kv_heads=1"};

class SlowFusedLosses : public TrainProgram, public ::testing::WithParamInterface<Case> {};

TEST_P(SlowFusedLosses, AreThoseOfTheUnfusedPathFor200Steps) {
  const Settings settings =
      kModel + Settings{"train.steps=200", "checkpoint.every=never"} + GetParam().settings;
  finish("fused", settings);
  finish("unfused", settings + Settings{"model.feed_forward.kernel=reference"});
  const std::vector<double> fused = losses("fused"), unfused = losses("unfused");
  ASSERT_EQ(fused.size(), 200u);
  ASSERT_EQ(unfused.size(), 200u);
  double largest = 0, sum = 0;
  for (size_t i = 0; i < fused.size(); ++i) {
    largest = std::max(largest, std::abs(fused[i] - unfused[i]));
    sum += fused[i] - unfused[i];
  }
  RecordProperty("largest", fmt::format("{:.1e}", largest));
  RecordProperty("mean", fmt::format("{:.1e}", sum / 200));
  EXPECT_LT(largest, GetParam().each);
  EXPECT_LT(std::abs(sum / 200), GetParam().mean);
  EXPECT_GT(largest, 0) << "both took one path";
  EXPECT_LT(fused.back(), 0.8 * fused.front()) << "nothing was learnt";
}

// fp32: roundings of 1e-7, in another order of sums, which 200 steps amplify some hundred times.
// bf16: either path rounds to 2^-9 at other places; a loss near 5 is a mean over thousands of
// tokens. Where routers begin to tell experts apart (steps 85 to 115) a merged model amplifies
// more: runs of the fused path alone differ by 0.03 there when AdamW's epsilon changes from 1.00e-8
// to 1.01e-8. FusedGradients below is what holds each step to account.
const Settings kDense{"model.feed_forward.kind=dense"}, kBf16{"train.precision=bf16"};

INSTANTIATE_TEST_SUITE_P(Slow, SlowFusedLosses,
                         ::testing::Values(Case{"MergedFp32", {}, 1e-4, 1e-5},
                                           Case{"DenseFp32", kDense, 1e-4, 1e-5},
                                           Case{"MergedBf16", kBf16, 6e-2, 1.2e-2},
                                           Case{"DenseBf16", kDense + kBf16, 2e-2, 2e-3}),
                         [](const auto& info) { return std::string(info.param.name); });

/// AdamW's first moments after one step: a tenth of the clipped gradients, by parameter.
class FusedGradients : public TrainProgram {
 protected:
  std::map<std::string, torch::Tensor> moments(const std::string& name, const Settings& settings) {
    finish(name, kModel + Settings{"train.steps=1", "optimizer.clip_norm=1000"} + settings);
    std::map<std::string, torch::Tensor> found;
    const auto content = CheckpointStore::load(file(name, "checkpoints/step_00000001"));
    for (const TensorPiece& piece : content.tensors) {
      if (piece.name.starts_with("optimizer.exp_avg.")) {
        found[piece.name] = piece.values.to(torch::kDouble).flatten();
      }
    }
    return found;
  }
};

// The products of either are rounded to bf16, which makes 0.3% to 1%; the plain path rounds weights
// and their gradients besides.
TEST_F(FusedGradients, InBf16AreAsNearToFp32AsThoseOfThePlainPathUpToAQuarter) {
  const Settings plain{"model.feed_forward.kernel=reference"};
  const auto expected = moments("fp32", plain), fused = moments("fused", kBf16),
             unfused = moments("unfused", kBf16 + plain);
  ASSERT_GT(expected.size(), 20u);
  for (const auto& [name, exact] : expected) {
    const auto error = [&](const std::map<std::string, torch::Tensor>& of) {
      return ((of.at(name) - exact).norm() / exact.norm()).item<double>();
    };
    EXPECT_LT(error(fused), 1.25 * error(unfused)) << name;
    EXPECT_LT(error(fused), 2e-2) << name;
    EXPECT_GT(error(fused), 0) << name << ": not computed in bf16";
  }
}

}  // namespace
}  // namespace lorikeet
