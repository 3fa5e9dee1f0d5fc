#pragma once
#include <optional>
#include <string>
#include <vector>

#include "keys.h"
#include "lorikeet/config/run_config.h"
#include "problem.h"
#include "value.h"

namespace lorikeet {

/// A visitor that checks each field against its own rule.
class RangeChecker {
 public:
  explicit RangeChecker(std::string section = "") : section_(std::move(section)) {}

  template <class T, class Rule>
  void field(const char* key, T& member, const Rule& rule, const char*) {
    check(join_path(section_, key), member, rule);
  }
  template <class T>
  void section(const char* key, T& member, const char*) {
    const std::string outer = section_;
    section_ = join_path(outer, key);
    describe(*this, member);
    section_ = outer;
  }

  std::vector<Problem> problems;

 private:
  template <class T, class Rule>
  void check(const std::string& path, const T& value, const Rule& rule) {
    const std::optional<InvalidValue> broken = broken_rule(value, rule);
    if (broken) add(path, shown(format_value(value, rule)), *broken);
  }
  void check(const std::string& path, const std::vector<MixtureWeight>& mixture, const Real& rule) {
    for (const MixtureWeight& entry : mixture) {
      check(join_path(path, entry.domain), entry.weight, rule);
    }
  }
  void add(const std::string& path, const std::string& value, const InvalidValue& broken) {
    problems.push_back({.keys = {path}, .value = value, .rule = broken.rule, .hint = broken.hint});
  }

  std::string section_;
};

/// Ranges of single fields.
std::vector<Problem> range_problems(const ModelConfig& model);
std::vector<Problem> range_problems(const RunConfig& config);
/// Rules between fields. Only for configurations whose single fields are in range.
std::vector<Problem> model_rule_problems(const ModelConfig& model);
std::vector<Problem> run_rule_problems(const RunConfig& config);

/// In floating point, so that absurd sizes do not overflow.
double approximate_parameters(const ModelConfig& model);

/// "use 256 or 512": the divisors of `n` next to `value`.
std::string divisors_hint(int64_t n, int64_t value);
/// "use 960 or 1024": the multiples of `n` next to `value`.
std::string multiples_hint(int64_t n, int64_t value);

}  // namespace lorikeet
