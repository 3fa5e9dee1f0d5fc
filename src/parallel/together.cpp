#include "lorikeet/parallel/together.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "lorikeet/core/error.h"
#include "lorikeet/core/first_line.h"

namespace lorikeet {
namespace {

using Json = nlohmann::json;

/// What one rank tells the others.
Json outcome_of(const std::string& at, const std::function<std::string()>& action) {
  try {
    return {{"at", at}, {"given", action()}};
  } catch (const Error& error) {
    return {{"at", at}, {"code", error.code()}, {"error", error.what()}, {"hint", error.hint()}};
  } catch (const std::exception& error) {  // LibTorch's, with a backtrace; out of memory
    return {{"at", at},
            {"code", ExitCode::kInternal},
            {"error", first_line(error.what())},
            {"hint", ""}};
  }
}

/// All that were gathered, and all of one thing: rank 0's, so that every rank judges alike.
std::vector<Json> parse_outcomes(const std::vector<std::string>& texts) {
  std::vector<Json> outcomes;
  for (const std::string& text : texts) {
    outcomes.push_back(Json::parse(text, nullptr, /*allow_exceptions=*/false));
    const auto place = [](const Json& outcome) {
      return outcome.is_object() ? outcome.value("at", "nothing known") : "nothing known";
    };
    const std::string first = place(outcomes.front()), theirs = place(outcomes.back());
    if (first == theirs) continue;
    throw Error(ExitCode::kInternal,
                fmt::format("the ranks are not at the same place: rank 0 at '{}', rank "
                            "{} at '{}'",
                            first, outcomes.size() - 1, theirs));
  }
  return outcomes;
}

}  // namespace

std::vector<std::string> together(Exchange& ranks, const std::string& at,
                                  const std::function<std::string()>& action) {
  if (ranks.size() == 1) return {action()};
  const std::string mine =
      outcome_of(at, action).dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
  const std::vector<Json> outcomes = parse_outcomes(ranks.gather(mine));
  std::vector<std::string> given;
  std::optional<Error> failure;
  size_t num_failures = 0;
  for (size_t rank = 0; rank < outcomes.size(); ++rank) {
    const Json& outcome = outcomes[rank];
    if (outcome.contains("given")) {
      given.push_back(outcome.at("given"));
      continue;
    }
    ++num_failures;
    const auto code = outcome.at("code").get<ExitCode>();
    const bool is_graver = code != ExitCode::kCheckpoint;
    if (failure && (!is_graver || failure->code() != ExitCode::kCheckpoint)) continue;
    failure = Error(code, fmt::format("rank {}: {}", rank, outcome.at("error").get<std::string>()),
                    outcome.at("hint"));
  }
  if (!failure) return given;
  if (num_failures == 1) throw *failure;
  throw Error(failure->code(),
              fmt::format("{} (and {} more of {} ranks failed)", failure->what(), num_failures - 1,
                          outcomes.size()),
              failure->hint());
}

}  // namespace lorikeet
