#include "lorikeet/config/load.h"
#include "schema.h"
#include "value.h"

namespace lorikeet {
namespace {

/// A visitor that lists dotted keys and their values.
class Lister {
 public:
  template <class T, class Rule>
  void field(const char* key, const T& member, const Rule& rule, const char*) {
    entries[prefix_ + key] = format_value(member, rule);
  }
  void field(const char* key, const std::vector<MixtureWeight>& member, const Real& rule,
             const char*) {
    for (const MixtureWeight& entry : member) {
      entries[prefix_ + key + "." + entry.domain] = format_value(entry.weight, rule);
    }
  }
  template <class T>
  void section(const char* key, T& member, const char*) {
    const std::string outer = prefix_;
    prefix_ += std::string(key) + ".";
    describe(*this, member);
    prefix_ = outer;
  }

  std::map<std::string, std::string> entries;

 private:
  std::string prefix_;
};

/// A visitor that writes `key: value` lines.
class Dumper {
 public:
  template <class T, class Rule>
  void field(const char* key, const T& member, const Rule& rule, const char*) {
    yaml += fmt::format("{}{}: {}\n", indent_, key, format_value(member, rule));
  }
  void field(const char* key, const std::vector<MixtureWeight>& member, const Real& rule,
             const char*) {
    yaml += fmt::format("{}{}:{}\n", indent_, key, member.empty() ? " {}" : "");
    for (const MixtureWeight& entry : member) {
      const std::string weight = format_value(entry.weight, rule);
      yaml += fmt::format("{}  {}: {}\n", indent_, yaml_scalar(entry.domain), weight);
    }
  }
  template <class T>
  void section(const char* key, T& member, const char*) {
    yaml += fmt::format("{}{}:\n", indent_, key);
    indent_ += "  ";
    describe(*this, member);
    indent_.resize(indent_.size() - 2);
  }

  std::string yaml;

 private:
  std::string indent_;
};

}  // namespace

std::string dump_run_config(const RunConfig& config) {
  Dumper dumper;
  RunConfig copy = config;
  describe(dumper, copy);
  return dumper.yaml;
}

std::map<std::string, std::string> config_entries(const RunConfig& config) {
  Lister lister;
  RunConfig copy = config;
  describe(lister, copy);
  return lister.entries;
}

}  // namespace lorikeet
