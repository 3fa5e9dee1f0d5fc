#include "checklist.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "lorikeet/core/error.h"
#include "lorikeet/core/first_line.h"
#include "lorikeet/core/log.h"

namespace lorikeet {

namespace {

constexpr std::array kVerdicts = {"go", "skipped", "no-go"};

const char* name_of(Verdict verdict) { return kVerdicts.at(static_cast<size_t>(verdict)); }

Finding find(const std::function<Finding()>& check) {
  try {
    return check();
  } catch (const Error& error) {
    if (error.code() == ExitCode::kCommunication) throw;
    return no_go(error.what());
  } catch (const std::exception& failure) {  // LibTorch appends a backtrace
    return no_go(first_line(failure.what()));
  }
}

bool is_worse(const PreflightCheck& a, const PreflightCheck& b) {
  return a.verdict != b.verdict ? a.verdict > b.verdict : a.severity > b.severity;
}

}  // namespace

bool PreflightReport::is_go() const {
  return std::none_of(checks.begin(), checks.end(),
                      [](const PreflightCheck& c) { return c.verdict == Verdict::kNoGo; });
}

bool Checklist::run(const std::string& name, const std::string& rule,
                    const std::function<Finding()>& check) {
  const Finding mine = find(check);
  const nlohmann::json text = {{"verdict", static_cast<int>(mine.verdict)},
                               {"figure", mine.figure},
                               {"severity", mine.severity}};
  // Paths and messages need not be UTF-8.
  const auto replace = nlohmann::json::error_handler_t::replace;
  const std::vector<std::string> all = ranks_.gather(text.dump(-1, ' ', false, replace));
  PreflightCheck worst;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const auto finding = nlohmann::json::parse(all[rank]);
    const nlohmann::json& severity = finding.at("severity");
    const PreflightCheck found{
        name, static_cast<Verdict>(finding.at("verdict").get<int>()), finding.at("figure"), rule,
        // not a number is written as null
        severity.is_null() ? 1e300 : severity.get<double>(), static_cast<int64_t>(rank)};
    if (rank == 0 || is_worse(found, worst)) worst = found;
  }
  add(worst);
  return worst.verdict != Verdict::kNoGo;
}

void Checklist::add(PreflightCheck check) {
  log_info("{}: {}: {}", check.name, name_of(check.verdict), check.figure);
  report_.checks.push_back(std::move(check));
}

std::string to_size(double bytes) {
  constexpr std::array kUnits = {"B", "kB", "MB", "GB", "TB", "PB"};
  size_t unit = 0;
  for (; bytes >= 1000 && unit + 1 < kUnits.size(); ++unit) bytes /= 1000;
  return fmt::format("{:.{}f} {}", bytes, unit == 0 ? 0 : 1, kUnits.at(unit));
}

std::string to_text(const PreflightReport& report) {
  size_t name_width = 0, figure_width = 0;
  for (const PreflightCheck& c : report.checks) {
    name_width = std::max(name_width, c.name.size());
    figure_width = std::max(figure_width, std::min<size_t>(c.figure.size(), 60));
  }
  std::string text;
  int64_t failed = 0;
  for (const PreflightCheck& c : report.checks) {
    const std::string whose = c.rank > 0 ? fmt::format(" (rank {})", c.rank) : "";
    text += fmt::format("{:<8} {:<{}}  {:<{}}", name_of(c.verdict), c.name, name_width,
                        c.figure + whose, figure_width);
    if (!c.rule.empty()) text += fmt::format("  [{}]", c.rule);
    while (text.back() == ' ') text.pop_back();
    text += '\n';
    failed += c.verdict == Verdict::kNoGo ? 1 : 0;
  }
  return text +
         (failed == 0 ? "go\n" : fmt::format("no-go: {} of {}\n", failed, report.checks.size()));
}

std::string to_json(const PreflightReport& report) {
  nlohmann::ordered_json json = {{"go", report.is_go()},
                                 {"checks", nlohmann::ordered_json::array()}};
  for (const PreflightCheck& c : report.checks) {
    json["checks"].push_back({{"name", c.name},
                              {"verdict", name_of(c.verdict)},
                              {"figure", c.figure},
                              {"rule", c.rule},
                              {"rank", c.rank}});
  }
  return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace lorikeet
