#pragma once
#include <functional>
#include <string>

#include "lorikeet/analysis/preflight.h"
#include "lorikeet/parallel/exchange.h"

namespace lorikeet {

/// What one rank finds, before the ranks put their findings together.
struct Finding {
  Verdict verdict = Verdict::kGo;
  std::string figure;
  double severity = 0;
};

inline Finding go(std::string figure, double severity = 0) {
  return {Verdict::kGo, std::move(figure), severity};
}
inline Finding no_go(std::string figure, double severity = 0) {
  return {Verdict::kNoGo, std::move(figure), severity};
}
inline Finding skipped(std::string why) { return {Verdict::kSkipped, std::move(why), 0}; }

/// `figure` is a go where `holds`.
inline Finding judge(bool holds, std::string figure, double severity = 0) {
  return {holds ? Verdict::kGo : Verdict::kNoGo, std::move(figure), severity};
}

/// Runs checks on all ranks together; the worst rank's finding counts.
class Checklist {
 public:
  explicit Checklist(Exchange& ranks) : ranks_(ranks) {}

  /// @param check  what it throws is a no-go, but Error(kCommunication), which ends everything
  /// @return whether it isn't a no-go, the same on all ranks
  bool run(const std::string& name, const std::string& rule, const std::function<Finding()>& check);
  /// A line that is known already, on all ranks.
  void add(PreflightCheck check);

  const PreflightReport& report() const { return report_; }

 private:
  Exchange& ranks_;
  PreflightReport report_;
};

/// 1,234,567 bytes as "1.2 MB".
std::string to_size(double bytes);

}  // namespace lorikeet
