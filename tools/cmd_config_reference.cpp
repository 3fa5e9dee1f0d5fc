#include <CLI/CLI.hpp>

#include <cstdio>

#include "lorikeet/config/load.h"
#include "tools/commands.h"

namespace lorikeet {

void add_config_reference_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "config-reference",
      "Print every configuration key with its default and meaning (docs/config.md)");
  command->callback([] { std::fputs(config_reference().c_str(), stdout); });
}

}  // namespace lorikeet
