// The program: finds the sub-command, runs it, and turns whatever is thrown into an exit code.
#include <fmt/format.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "lorikeet/core/error.h"
#include "lorikeet/core/nearest.h"
#include "lorikeet/core/version.h"
#include "lorikeet/ops/processor_level.h"
#include "tools/commands.h"
#include "tools/report.h"

// Read by jemalloc, which gives this process its memory: what is freed is kept for the next step.
// Given back to the kernel it would be had again, zeroed, a millisecond later: a sixth of a step's
// time went into page faults.
extern "C" const char* malloc_conf;
const char* malloc_conf = "dirty_decay_ms:-1,muzzy_decay_ms:-1";

namespace lorikeet {
namespace {

// The deepest sub-command that was named: an error is about its options.
const CLI::App& deepest(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app : deepest(*chosen.back());
}

std::vector<std::string> subcommand_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

// Those of the commands above too: they may stand after a sub-command.
std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* app = &command; app; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
  }
  return names;
}

// `word` stands on the command line and is neither a command nor an option nor an argument.
int report_unknown(const CLI::App& command, std::string word, const std::string& path) {
  std::string what = "unexpected argument";
  std::vector<std::string> candidates = subcommand_names(command);
  if (word.starts_with("-")) {
    word = word.substr(0, word.find('='));
    what = "unknown option";
    candidates = option_names(command);
  } else if (!candidates.empty()) {
    what = "unknown command";
  }
  const std::string meant = nearest(word, candidates);
  return report(ExitCode::kUsage, fmt::format("{}: {} '{}'", path, what, word),
                meant.empty() ? fmt::format("`{} --help` lists what there is", path)
                              : fmt::format("did you mean '{}'?", meant));
}

int report_usage(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = deepest(app);
  std::string path = command.get_name();
  for (const CLI::App* parent = command.get_parent(); parent; parent = parent->get_parent()) {
    path = parent->get_name() + " " + path;
  }
  const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
  if (!unknown.empty()) return report_unknown(command, unknown.front(), path);
  return report(ExitCode::kUsage, fmt::format("{}: {}", path, error.what()),
                fmt::format("`{} --help` lists what there is", path));
}

// Before anything is computed or written.
void check_processor_level() {
  const std::string problem = ops::processor_level_problem();
  if (problem.empty()) return;
  throw Error(ExitCode::kUsage,
              fmt::format("LORIKEET_CPU is '{}': {}", std::getenv("LORIKEET_CPU"), problem),
              "unset it for the best that this processor has");
}

int run(int argc, char** argv) {
  CLI::App app{"Lorikeet trains language models whose feed-forward layers are merged experts.",
               "lorikeet"};
  app.set_version_flag("--version", version_report, "Print versions and processor features");
  bool is_verbose = false;
  app.add_flag("--verbose", is_verbose, "Print internal errors in full, with their stack traces");
  app.require_subcommand(1);
  app.fallthrough();  // `lorikeet score --verbose ...` too
  add_commands(app);
  try {
    check_processor_level();
    app.parse(argc, argv);
    return static_cast<int>(ExitCode::kOk);
  } catch (const CLI::Success& request) {  // --help, --version
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    return report_usage(app, error);
  } catch (...) {
    return report_current_exception(is_verbose);
  }
}

}  // namespace
}  // namespace lorikeet

int main(int argc, char** argv) { return lorikeet::run(argc, argv); }
