#include "lorikeet/evaluate/sampling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lorikeet/core/error.h"

namespace lorikeet {

namespace {

void normalise(std::vector<Candidate>& candidates) {
  double sum = 0;
  for (const Candidate& candidate : candidates) sum += candidate.probability;
  for (Candidate& candidate : candidates) candidate.probability /= sum;
}

bool more_probable(const Candidate& a, const Candidate& b) {
  return a.probability != b.probability ? a.probability > b.probability : a.id < b.id;
}

/// Of sorted candidates that add up to 1.
void keep_top_p(std::vector<Candidate>& sorted, double top_p) {
  double sum = 0;
  size_t count = 0;
  while (count < sorted.size() && sum < top_p) sum += sorted[count++].probability;
  sorted.resize(count);
}

}  // namespace

void check_sampling(const SamplingOptions& options) {
  const auto refuse = [](const char* name, auto value, const char* rule, const char* hint) {
    throw Error(ExitCode::kUsage, fmt::format("{}: {} {}", name, value, rule), hint);
  };
  if (!std::isfinite(options.temperature) || options.temperature < 0) {
    refuse("temperature", options.temperature, "is not a finite number of at least 0",
           "0 is greedy, 1 the model's own probabilities");
  }
  if (options.top_k < 0) {
    refuse("top-k", options.top_k, "is negative", "0 turns it off");
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    refuse("top-p", options.top_p, "is not above 0 and at most 1", "1 turns it off");
  }
}

std::vector<Candidate> sampling_candidates(std::span<const float> logits,
                                           const SamplingOptions& options) {
  const auto best = std::max_element(logits.begin(), logits.end());  // the first of equals
  if (options.temperature == 0) return {{best - logits.begin(), 1.0}};
  std::vector<Candidate> candidates(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    // The difference first: no temperature is small enough to overflow it.
    const double difference = static_cast<double>(logits[i]) - static_cast<double>(*best);
    candidates[i] = {static_cast<int64_t>(i), std::exp(difference / options.temperature)};
  }
  const bool cuts_k = options.top_k > 0 && options.top_k < static_cast<int64_t>(logits.size());
  if (cuts_k) {
    const auto end = candidates.begin() + options.top_k;
    std::partial_sort(candidates.begin(), end, candidates.end(), more_probable);
    candidates.erase(end, candidates.end());
  }
  normalise(candidates);
  if (options.top_p < 1) {
    if (!cuts_k) std::sort(candidates.begin(), candidates.end(), more_probable);
    keep_top_p(candidates, options.top_p);
    normalise(candidates);
  }
  return candidates;
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {
  check_sampling(options);
}

int64_t Sampler::next(std::span<const float> logits) {
  const std::vector<Candidate> candidates = sampling_candidates(logits, options_);
  // 53 random bits in [0, 1): unlike std::uniform_real_distribution, the same everywhere.
  double left = static_cast<double>(random_() >> 11) * 0x1p-53;
  for (const Candidate& candidate : candidates) {
    left -= candidate.probability;
    if (left < 0) return candidate.id;
  }
  // Rounding kept the sum just below the draw: the last one that can be drawn at all.
  const auto possible = std::find_if(candidates.rbegin(), candidates.rend(),
                                     [](const Candidate& c) { return c.probability > 0; });
  return possible->id;
}

}  // namespace lorikeet
