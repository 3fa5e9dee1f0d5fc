#include "lorikeet/config/load.h"

#include "rules.h"
#include "schema.h"
#include "settings.h"
#include "value.h"
#include "yaml_text.h"

namespace lorikeet {
namespace {

/// A visitor that sets each field from its setting, if there is one.
class Reader {
 public:
  explicit Reader(const Settings& settings) : settings_(settings) {}

  template <class T, class Rule>
  void field(const char* key, T& member, const Rule& rule, const char*) {
    const std::string path = join_path(section_, key);
    const Setting* setting = settings_.find(path);
    if (setting != nullptr) read(path, *setting, setting->values.front(), member, rule);
  }
  void field(const char* key, std::vector<double>& member, const Numbers& rule, const char*) {
    const std::string path = join_path(section_, key);
    const Setting* setting = settings_.find(path);
    if (setting == nullptr) return;
    member.assign(setting->values.size(), 0.0);
    for (size_t i = 0; i < member.size(); ++i) {
      read(path, *setting, setting->values[i], member[i], rule.each);
    }
  }
  void field(const char* key, std::vector<MixtureWeight>& member, const Real& rule, const char*) {
    const std::string path = join_path(section_, key);
    for (const auto& [domain, setting] : settings_.below(path)) {
      MixtureWeight& entry = member.emplace_back(MixtureWeight{domain, 1.0});
      read(join_path(path, domain), setting, setting.values.front(), entry.weight, rule);
    }
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
  void read(const std::string& path, const Setting& setting, const std::string& text, T& value,
            const Rule& rule) {
    T parsed{};
    try {
      parse_value(text, parsed, rule);
      value = parsed;
    } catch (const InvalidValue& invalid) {
      problems.push_back({.keys = {path},
                          .value = text.empty() ? "\"\"" : shown(text),
                          .rule = invalid.rule,
                          .hint = invalid.hint,
                          .where = setting.where});
    }
  }

  const Settings& settings_;
  std::string section_;
};

/// Every problem at once; rules between fields only once the fields themselves are right.
std::vector<Problem> problems_of(const Settings& settings, RunConfig& config) {
  Reader reader(settings);
  describe(reader, config);
  std::vector<Problem> problems = settings.problems();
  problems.insert(problems.end(), reader.problems.begin(), reader.problems.end());
  const std::vector<Problem> ranges = range_problems(config);
  problems.insert(problems.end(), ranges.begin(), ranges.end());
  if (problems.empty()) problems = run_rule_problems(config);
  settings.locate(problems);
  return problems;
}

}  // namespace

RunConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides) {
  return parse_run_config(read_config_file(path), path, overrides);
}

RunConfig parse_run_config(const std::string& yaml_text, const std::string& name,
                           const std::vector<std::string>& overrides) {
  Settings settings;
  settings.add_file(yaml_text, name);
  for (const std::string& assignment : overrides) settings.add_override(assignment);
  RunConfig config;
  const std::vector<Problem> problems = problems_of(settings, config);
  if (!problems.empty()) throw_problems(problems);
  return config;
}

}  // namespace lorikeet
