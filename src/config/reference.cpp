#include "keys.h"
#include "lorikeet/config/load.h"
#include "schema.h"
#include "value.h"

namespace lorikeet {
namespace {

constexpr const char* kIntroduction = R"(# The configuration of a run

<!-- Written by `lorikeet config-reference` from src/config/schema.h: change it there. -->

A run is described by one YAML file. Keys are nested as the headings below say:
`model.feed_forward.num_experts` is `num_experts` in `feed_forward` in `model`.

**Precedence.** Defaults, then the file, then `--set KEY=VALUE` in the order given. `--set` takes a dotted key and a
value in YAML (`--set model.hidden_size=512`, `--set 'schedule={kind: linear, peak: 1.0e-3}'`). Maps are merged
key by key. `--print-config` prints the result, every key at its value, as YAML that reads back to the same run.
Paths are relative to the working directory.

**Typed strings.** *Whole numbers* may end in a decimal multiplier: K, M, B, T for 10^3, 10^6, 10^9, 10^12 (`150B`, `1.5M`).
*Periods* carry their unit: `500steps`, `10Mtokens`, `90s`, `30min`, `2h`, `5%` of the run, or `never`. A bare `500` is an
error, and so is a fraction of a step. Tokens and percentages are rounded to the nearest step, and to at least one.

**Errors.** Unknown keys, keys set twice, values of the wrong type and values out of range are errors, all reported at once
with file and line, key, value and rule; then rules between keys are checked:

    error: run.yaml:14: model.feed_forward.segment_length: 300 does not divide model.context_length 4096
    hint: use 256 or 512
)";

const char* type_name(const bool&) { return "true or false"; }
const char* type_name(const int64_t&) { return "whole number"; }
const char* type_name(const Count&) { return "whole number"; }
const char* type_name(const double&) { return "number"; }
const char* type_name(const std::string&) { return "text"; }
const char* type_name(const Period&) { return "period"; }
const char* type_name(const std::vector<double>&) { return "numbers"; }
const char* type_name(const std::vector<MixtureWeight>&) { return "map of numbers"; }
template <NamedEnum E>
const char* type_name(const E&) {
  return "name";
}

template <class T, class Rule>
std::string allowed_of(const T&, const Rule& rule) {
  if constexpr (NamedEnum<T>) {
    return fmt::format("{}", fmt::join(enum_names<T>(), ", "));
  } else {
    return allowed_values(rule);
  }
}

template <class T, class Rule>
std::string default_of(const T& value, const Rule& rule) {
  if constexpr (std::is_same_v<T, std::vector<MixtureWeight>>) {
    return "none";
  } else {
    return fmt::format("`{}`", format_value(value, rule));
  }
}

/// A visitor that writes a table for each section. Sections inside a section follow its table.
class ReferenceWriter {
 public:
  std::string write() {
    RunConfig config;
    describe_section("", config, "The run itself.");
    return text_;
  }

  template <class T, class Rule>
  void field(const char* key, T& member, const Rule& rule, const char* meaning) {
    const std::string allowed = allowed_of(member, rule);
    rows_ +=
        fmt::format("| `{}` | {} | {} | {}{} |\n", key, type_name(member), default_of(member, rule),
                    meaning, allowed.empty() ? "" : " *" + allowed + "*");
  }
  template <class T>
  void section(const char* key, T& member, const char* meaning) {
    ReferenceWriter inner;
    inner.describe_section(join_path(section_, key), member, meaning);
    inner_text_ += inner.text_;
  }

 private:
  template <class T>
  void describe_section(const std::string& path, T& member, const char* meaning) {
    section_ = path;
    describe(*this, member);
    const std::string title = path.empty() ? "Top level" : fmt::format("`{}`", path);
    text_ = fmt::format(
        "\n## {}\n\n{}\n\n| key | type | default | meaning, *allowed* |\n"
        "|---|---|---|---|\n{}{}",
        title, meaning, rows_, inner_text_);
  }

  std::string section_;
  std::string rows_;
  std::string inner_text_;
  std::string text_;
};

}  // namespace

std::string config_reference() { return kIntroduction + ReferenceWriter().write(); }

}  // namespace lorikeet
