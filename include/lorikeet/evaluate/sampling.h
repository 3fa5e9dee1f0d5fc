#pragma once
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace lorikeet {

/// How the next token is drawn: temperature first, then top-k, then top-p, then renormalised.
struct SamplingOptions {
  double temperature = 1.0;  ///< 0: greedy, the most probable token
  int64_t top_k = 0;         ///< only the k most probable tokens; 0: all
  double top_p = 1.0;  ///< only the fewest most probable tokens that together reach p, at least one
  uint64_t seed = 1;
};

/// @throws Error(kUsage) naming the option, its value and the rule
void check_sampling(const SamplingOptions& options);

struct Candidate {
  int64_t id;
  double probability;
};

/// The tokens that may be drawn, with probabilities that add up to 1. Of equally probable tokens
/// the lower id counts as the more probable, so that greedy and cuts are always defined.
/// @param logits one a token, finite, at least one
std::vector<Candidate> sampling_candidates(std::span<const float> logits,
                                           const SamplingOptions& options);

/// Draws tokens. The same seed and logits give the same tokens on every machine.
class Sampler {
 public:
  /// @throws Error(kUsage), see check_sampling
  explicit Sampler(const SamplingOptions& options);
  int64_t next(std::span<const float> logits);

 private:
  SamplingOptions options_;
  std::mt19937_64 random_;
};

}  // namespace lorikeet
