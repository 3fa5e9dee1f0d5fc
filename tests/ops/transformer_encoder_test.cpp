// Encoder layers through the micro-kernels against the plain statement in fp64.
#include "lorikeet/ops/transformer_encoder.h"

#include <gtest/gtest.h>

#include <thread>

#include "src/ops/cpu/transformer_encoder.h"
#include "tests/ops/merged_testing.h"

namespace lorikeet::ops {
namespace {

using torch::Tensor;

constexpr double kEps = 1e-12;

struct Case {
  std::vector<int64_t> lengths;
  int64_t D, F, A;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {{128}, 64, 128, 2},                     // whole blocks
      {{1, 0, 70, 16, 0, 129}, 48, 80, 3},     // empty, short and odd texts, narrow panels
      {{300, 5}, 96, 400, 4},                  // several blocks of rows, queries and features
      {std::vector<int64_t>(9, 3), 16, 16, 4}  // heads of 4
  };
  return all;
}

std::vector<EncoderLayer> make_layers(const Case& c, int64_t count, torch::ScalarType dtype) {
  torch::manual_seed(3);
  const auto linear = [&](int64_t O, int64_t I) {
    return EncoderLayer::Linear{
        (torch::randn({O, I}) / std::sqrt(static_cast<double>(I))).to(dtype),
        (torch::randn({O}) * 0.1).to(dtype)};
  };
  const auto norm = [&] {
    return EncoderLayer::Norm{(1 + 0.1 * torch::randn({c.D})).to(dtype),
                              (0.1 * torch::randn({c.D})).to(dtype)};
  };
  std::vector<EncoderLayer> layers;
  for (int64_t i = 0; i < count; ++i) {
    layers.push_back({.query_key_value = linear(3 * c.D, c.D),
                      .attention_output = linear(c.D, c.D),
                      .attention_norm = norm(),
                      .intermediate = linear(c.F, c.D),
                      .output = linear(c.D, c.F),
                      .output_norm = norm()});
  }
  return layers;
}

std::vector<EncoderLayer> in_fp64(std::vector<EncoderLayer> layers) {
  for (EncoderLayer& layer : layers) {
    for (EncoderLayer::Linear* l :
         {&layer.query_key_value, &layer.attention_output, &layer.intermediate, &layer.output}) {
      *l = {l->weight.to(torch::kDouble), l->bias.to(torch::kDouble)};
    }
    for (EncoderLayer::Norm* n : {&layer.attention_norm, &layer.output_norm}) {
      *n = {n->weight.to(torch::kDouble), n->bias.to(torch::kDouble)};
    }
  }
  return layers;
}

struct Example {
  Example(const Case& c, torch::ScalarType dtype)
      : layers(make_layers(c, 2, dtype)),
        offsets(offsets_of(c.lengths)),
        x(torch::randn({offsets.back(), c.D}).to(dtype)),
        exact(TransformerEncoder(in_fp64(layers), c.A, kEps)(x.to(torch::kDouble), offsets)) {}
  std::vector<EncoderLayer> layers;
  std::vector<int64_t> offsets;
  Tensor x, exact;
};

// fp32: sums of up to 400 products, each rounded, through two layers that norms keep near 1; erf is
// within 1.5e-7. bf16: what is stored between products has 8 bits.
double tolerance_of(torch::ScalarType dtype) { return dtype == torch::kFloat ? 2e-6 : 1.5e-2; }

class TransformerEncoders : public testing::TestWithParam<const char*> {};

TEST_P(TransformerEncoders, EqualThePlainStatementInFp64) {
  if (!cpu::has_level(GetParam())) GTEST_SKIP() << "not on this processor";
  const AtLevel at(GetParam());
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    for (const Case& c : cases()) {
      const Example run(c, dtype);
      const bool has_product =
          cpu::level().fast_product || (dtype == torch::kBFloat16 && cpu::level().bf16_product);
      EXPECT_EQ(cpu::pack_encoder(run.layers, c.A, kEps) != nullptr, has_product);
      const Tensor y = TransformerEncoder(run.layers, c.A, kEps)(run.x, run.offsets);
      EXPECT_EQ(y.scalar_type(), dtype);
      EXPECT_LT(relative_error(y, run.exact), tolerance_of(dtype)) << c.D << ' ' << dtype;
      const Tensor plain = TransformerEncoder(run.layers, c.A, kEps, true)(run.x, run.offsets);
      EXPECT_LT(relative_error(plain, run.exact), tolerance_of(dtype)) << c.D << ' ' << dtype;
    }
  }
}

TEST_P(TransformerEncoders, GiveATextTheSameBitsInAnyCompanyAndOnAnyThread) {
  if (!cpu::has_level(GetParam())) GTEST_SKIP() << "not on this processor";
  const AtLevel at(GetParam());
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const Case& c = cases()[1];
    const Example run(c, dtype);
    const TransformerEncoder encoder(run.layers, c.A, kEps);
    if (!cpu::pack_encoder(run.layers, c.A, kEps)) continue;  // LibTorch's products may differ
    const Tensor together = encoder(run.x, run.offsets);
    Tensor alone;
    std::thread([&] {
      std::vector<Tensor> texts;
      for (size_t b = 0; b < c.lengths.size(); ++b) {
        const Tensor x = run.x.narrow(0, run.offsets[b], c.lengths[b]);
        texts.push_back(encoder(x, {0, c.lengths[b]}));
      }
      alone = torch::cat(texts);
    }).join();
    EXPECT_TRUE(torch::equal(together, alone)) << dtype;
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, TransformerEncoders,
                         testing::Values("avx512bf16", "avx512", "avx2", "portable",
                                         "portable_bf16", "reference"),
                         [](const auto& info) { return std::string(info.param); });

TEST(TransformerEncoder, TakesWidthsThatTheMicroKernelsDoNot) {
  const Case odd{{7, 3}, 30, 41, 3};
  const Example run(odd, torch::kFloat);
  const Tensor y = TransformerEncoder(run.layers, odd.A, kEps)(run.x, run.offsets);
  EXPECT_LT(relative_error(y, run.exact), tolerance_of(torch::kFloat));
  EXPECT_EQ(TransformerEncoder(run.layers, odd.A, kEps)(run.x.narrow(0, 0, 0), {0, 0}).numel(), 0);
}

TEST(TransformerEncoder, KeepsANotANumberInItsText) {
  const Case& c = cases()[1];
  Example run(c, torch::kFloat);
  run.x[0][5] = std::nan("");
  const Tensor y = TransformerEncoder(run.layers, c.A, kEps)(run.x, run.offsets);
  EXPECT_TRUE(y[0].isnan().all().item<bool>());
  EXPECT_FALSE(y.narrow(0, 1, y.size(0) - 1).isnan().any().item<bool>());
}

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "";
}

TEST(TransformerEncoder, RefusesWhatDoesNotGoTogether) {
  const Case& c = cases()[0];
  const Example run(c, torch::kFloat);
  const auto with = [&](const auto& change) {
    std::vector<EncoderLayer> layers = run.layers;
    change(layers[1]);
    return error_of([&] { TransformerEncoder(layers, c.A, kEps); });
  };
  const auto contains = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos ? std::string() : text + " lacks " + part;
  };
  EXPECT_EQ(contains(with([](EncoderLayer& l) { l.output.bias = torch::zeros({63}); }),
                     "output [63] in Float on cpu must be [64]"),
            "");
  EXPECT_EQ(contains(with([](EncoderLayer& l) {
                       l.intermediate.weight = torch::zeros({100, 64});
                     }),
                     "intermediate [100, 64]"),
            "");
  EXPECT_EQ(contains(with([](EncoderLayer& l) {
                       l.output_norm.bias = torch::zeros({64}, torch::kDouble);
                     }),
                     "output_norm [64] in Double"),
            "");
  const TransformerEncoder encoder(run.layers, c.A, kEps);
  EXPECT_EQ(contains(error_of([&] { encoder(run.x, {0, 100}); }), "offsets [0, 100]"), "");
  EXPECT_EQ(contains(error_of([&] { encoder(run.x, {0, 200, 128}); }), "not decrease"), "");
  EXPECT_EQ(contains(error_of([&] {
                       encoder(run.x.to(torch::kDouble), {0, 128});
                     }),
                     "in Double"),
            "");
  EXPECT_NE(error_of([&] { TransformerEncoder(run.layers, 5, kEps); }), "");
  EXPECT_NE(error_of([&] { TransformerEncoder({}, 5, kEps); }), "");
}

}  // namespace
}  // namespace lorikeet::ops
