#include "lorikeet/train/loss_guard.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace lorikeet {

namespace {
constexpr double kDecay = 0.98;      // the recent past: about 50 steps
constexpr int64_t kMinHistory = 20;  // before that the spread means nothing
constexpr double kMinSpread = 0.01;  // nats: a flat curve is no reason to call noise a spike
}  // namespace

double LossGuard::deviation() const { return std::max(std::sqrt(variance_), kMinSpread); }

LossGuard::Verdict LossGuard::judge(double loss, bool is_finite) {
  if (!is_finite) {
    ++skipped_in_total_;
    return ++skipped_in_a_row_ > config_.max_skipped_steps ? Verdict::kDiverged : Verdict::kSkipped;
  }
  skipped_in_a_row_ = 0;
  const double limit = config_.spike_threshold * deviation();
  const bool is_spike = limit > 0 && observed_ >= kMinHistory && loss - mean_ > limit;
  // A spike counts as no more than the limit, so that one does not widen the spread much, while a
  // loss that stays high becomes the new normal after a while.
  const double excess = is_spike ? limit : loss - mean_;
  // Exponentially weighted mean and variance; plain averages while there is little history.
  const double weight = std::max(1 - kDecay, 1.0 / static_cast<double>(++observed_));
  mean_ += weight * excess;
  variance_ = (1 - weight) * (variance_ + weight * excess * excess);
  return is_spike ? Verdict::kSpike : Verdict::kFine;
}

std::string LossGuard::state() const {
  return nlohmann::json{{"mean", mean_},
                        {"variance", variance_},
                        {"observed", observed_},
                        {"skipped_in_a_row", skipped_in_a_row_},
                        {"skipped_in_total", skipped_in_total_}}
      .dump();
}

void LossGuard::load_state(const std::string& text) {
  const auto json = nlohmann::json::parse(text);
  mean_ = json.at("mean");
  variance_ = json.at("variance");
  observed_ = json.at("observed");
  skipped_in_a_row_ = json.at("skipped_in_a_row");
  skipped_in_total_ = json.at("skipped_in_total");
}

}  // namespace lorikeet
