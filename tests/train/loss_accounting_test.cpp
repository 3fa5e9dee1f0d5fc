// How losses and gradients of parts add up to those of the global batch.
// B sequences, L tokens in each.
#include <cmath>

#include "lorikeet/train/batch_loss.h"
#include "tests/model/test_models.h"
#include "tests/train/program.h"

namespace lorikeet {
namespace {

using namespace train_testing;
using testing_models::make_model;
using testing_models::tiny_config;

/// Random tokens; each sequence is one document, or two that part in the middle of a segment.
std::vector<Sequence> random_sequences(const ModelConfig& config, int count, bool two_documents) {
  std::mt19937 random(3);
  const auto length = static_cast<int32_t>(config.context_length);
  std::vector<Sequence> sequences(count);
  for (Sequence& sequence : sequences) {
    for (int i = 0; i <= length; ++i) {
      sequence.tokens.push_back(static_cast<int32_t>(random() % config.vocab_size));
    }
    sequence.document_lengths =
        two_documents ? std::vector<int32_t>{6, length - 6} : std::vector<int32_t>{length};
  }
  return sequences;
}

/// Loss and gradients of the mean over all sequences, from parts of `micro` at a time.
std::pair<double, std::vector<torch::Tensor>> accumulate(const ModelConfig& config, size_t micro) {
  LanguageModel model = make_model(config);
  const std::vector<Sequence> all = random_sequences(config, 4, false);
  const double tokens = static_cast<double>(all.size()) * config.context_length;
  double sum = 0;
  for (size_t i = 0; i < all.size(); i += micro) {
    const std::vector<Sequence> part(all.begin() + i, all.begin() + i + micro);
    const BatchLoss loss = compute_loss(model, make_batch(part, torch::kCPU));
    (loss.sum / tokens).backward();
    sum += loss.sum.item<double>();
  }
  std::vector<torch::Tensor> gradients;
  for (const auto& parameter : model->parameters()) gradients.push_back(parameter.grad());
  return {sum / tokens, gradients};
}

TEST(LossAccounting, FourPartsOfOneAddUpToOnePartOfFour) {
  for (const auto kind : {FeedForwardKind::kDense, FeedForwardKind::kMerged}) {
    const auto [whole, whole_gradients] = accumulate(tiny_config(kind), 4);
    const auto [parts, part_gradients] = accumulate(tiny_config(kind), 1);
    EXPECT_NEAR(parts, whole, 1e-5);
    for (size_t i = 0; i < whole_gradients.size(); ++i) {
      // fp32 sums of 64 tokens in another order: about 1e-6 of the largest term.
      const torch::Tensor largest = whole_gradients[i].abs().max();
      const torch::Tensor error = (part_gradients[i] - whole_gradients[i]).abs().max();
      EXPECT_GT(largest.item<float>(), 0);
      EXPECT_LE(error.item<float>(), 1e-5 * largest.item<float>()) << i;
    }
  }
}

TEST(LossAccounting, SumsAreThoseOfADirectComputation) {
  for (const bool by_document : {false, true}) {
    for (const auto kind : {FeedForwardKind::kDense, FeedForwardKind::kMerged}) {
      ModelConfig config = tiny_config(kind);
      config.feed_forward.segment_scope = by_document ? Scope::kDocument : Scope::kContext;
      LanguageModel model = make_model(config);
      const TokenBatch batch = make_batch(random_sequences(config, 3, true), torch::kCPU);
      const BatchLoss loss = compute_loss(model, batch);

      const torch::Tensor log_probabilities_BLV =
          testing_models::log_probabilities(model, batch.inputs_BL, batch.documents);
      const torch::Tensor losses_BL =
          -log_probabilities_BLV.gather(2, batch.targets_BL.unsqueeze(2)).squeeze(2);
      EXPECT_EQ(loss.num_tokens, 3 * 16);
      EXPECT_NEAR(loss.sum.item<double>(), losses_BL.sum().item<double>(), 1e-3);
      // Segments of 4: tokens 0 to 3, and of the second document 6 to 9.
      torch::Tensor first = losses_BL.narrow(1, 0, 4).sum();
      if (by_document) first = first + losses_BL.narrow(1, 6, 4).sum();
      EXPECT_EQ(loss.num_first_segment_tokens, 3 * (by_document ? 8 : 4));
      EXPECT_NEAR(loss.first_segment_sum.item<double>(), first.item<double>(), 1e-3);
      EXPECT_FALSE(loss.first_segment_sum.requires_grad());
    }
  }
}

class SlowLossAccounting : public TrainProgram {};

TEST_F(SlowLossAccounting, MicroBatchesAndRecomputationChangeNothingTheyMustNot) {
  const Settings base = slow_steps() + Settings{"train.steps=10"};
  finish("base", base + Settings{"train.micro_batch=4"});
  finish("micro", base + Settings{"train.micro_batch=1"});
  const std::vector<double> whole = losses("base"), parts = losses("micro");
  ASSERT_EQ(whole.size(), 10u);
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(whole[i], parts[i], 1e-5) << i;
  for (const std::string part : {"attention", "ffn", "block"}) {
    finish(part, base + Settings{"train.micro_batch=4", "train.activation_checkpointing=" + part});
    expect_same("base", part);
  }
}

/// MKL splits long inner dimensions of matrix products over threads unless MKL_CBWR forbids it: the
/// one thing in which the number of threads shows.
TEST_F(SlowLossAccounting, ThreadsChangeNoBitWhereMklIsToldToKeepItsOrder) {
  const Settings one = slow_steps() + Settings{"train.steps=10", "train.threads=1"};
  const Settings two = slow_steps() + Settings{"train.steps=10", "train.threads=2"};
  finish("one", one);
  finish("two", two);
  const std::vector<double> a = losses("one"), b = losses("two");
  ASSERT_EQ(a.size(), 10u);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5) << i;
  ASSERT_EQ(::setenv("MKL_CBWR", "AVX2,STRICT", 1), 0);
  finish("one_strict", one);
  finish("two_strict", two);
  ::unsetenv("MKL_CBWR");
  expect_same("one_strict", "two_strict");
}

TEST_F(SlowLossAccounting, ValidationLeavesTrainingUntouched) {
  finish("without");
  finish("with", {"evaluate.every=1steps"});
  expect_same("without", "with");
  EXPECT_EQ(metrics("with").size(), 60u) << "a training row and a validation row each step";
}

TEST_F(SlowLossAccounting, Bfloat16StaysNearFp32) {
  finish("fp32");
  finish("bf16", {"train.precision=bf16"});
  const std::vector<double> fp32 = losses("fp32"), bf16 = losses("bf16");
  ASSERT_EQ(bf16.size(), 30u);
  EXPECT_NE(fp32, bf16);
  // 8 bits of mantissa: 0.4% a value, far less in a mean over 128 tokens.
  for (size_t i = 0; i < 30; ++i) EXPECT_NEAR(bf16[i], fp32[i], 0.02 * fp32[i]) << i;
}

}  // namespace
}  // namespace lorikeet
