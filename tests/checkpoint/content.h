#pragma once
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "lorikeet/checkpoint/checkpoint.h"
#include "lorikeet/core/file.h"
#include "tests/core/temporary_folder.h"

namespace lorikeet::testing {

/// A small content that is a function of the step.
inline CheckpointContent make_content(int64_t step, int64_t elements = 6) {
  const double value = static_cast<double>(step);
  CheckpointContent content;
  content.step = step;
  content.tokens = step * 1000;
  content.sequences = step * 10;
  content.tensors = {whole_piece("model.weight", torch::arange(elements).to(torch::kFloat) + value),
                     whole_piece("optimizer.step.weight", torch::full({}, value, torch::kFloat)),
                     whole_piece("rng", torch::arange(11).to(torch::kByte))};
  content.states = {{"trainer", R"({"best_loss":2.5,"skipped":[1,2]})"}, {"loader", "17"}};
  content.config_yaml = "name: test\nseed: 1\n";
  content.code_version = "0.1.0-abc";
  content.data_fingerprint = "00ff";
  return content;
}

/// The same but for the number of ranks and the cut of tensors into pieces.
inline void expect_equal(const CheckpointContent& a, const CheckpointContent& b) {
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.sequences, b.sequences);
  EXPECT_EQ(a.states, b.states);
  EXPECT_EQ(a.config_yaml, b.config_yaml);
  EXPECT_EQ(a.code_version, b.code_version);
  EXPECT_EQ(a.data_fingerprint, b.data_fingerprint);
  ASSERT_EQ(tensor_names(a), tensor_names(b));
  for (const std::string& name : tensor_names(a)) {
    const torch::Tensor tensor = whole_tensor(a, name), other = whole_tensor(b, name);
    EXPECT_EQ(tensor.scalar_type(), other.scalar_type()) << name;
    EXPECT_EQ(tensor.sizes(), other.sizes()) << name;
    EXPECT_TRUE(torch::equal(tensor, other)) << name;
  }
}

inline std::string read_file(const std::string& path) {
  return read_text_file(path, ExitCode::kCheckpoint);
}

/// In place, as damage happens.
inline void overwrite_file(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

/// At once, twice: no test waits for a disk to recover.
inline SaveRetry quick_retry() { return {.attempts = 2, .pause_seconds = 0}; }

inline std::shared_ptr<Exchange> one_rank() { return std::make_shared<OneRank>(); }

inline CheckpointConfig keep(int64_t last, Period every = Period::never()) {
  CheckpointConfig config;
  config.keep_last = last;
  config.keep_every = every;
  return config;
}

/// @param local  checkpoint.local
inline CheckpointConfig keep_locally(int64_t last, const std::string& local) {
  CheckpointConfig config = keep(last);
  config.local = local;
  return config;
}

}  // namespace lorikeet::testing
