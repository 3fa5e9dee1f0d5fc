#pragma once
#include <CLI/CLI.hpp>

namespace lorikeet {

// One function a sub-command, in tools/cmd_<name>.cpp. It adds the sub-command with its options;
// the command's callback calls the library and prints, and throws lorikeet::Error for what a user
// did wrong. A new one is declared and called here, and nowhere else.
void add_pretrain_command(CLI::App& app);
void add_preflight_command(CLI::App& app);
void add_consolidate_command(CLI::App& app);
void add_data_command(CLI::App& app);
/// `lorikeet data batch`, for add_data_command.
void add_data_batch(CLI::App& data);
void add_score_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_bench_command(CLI::App& app);
void add_compare_command(CLI::App& app);
void add_config_reference_command(CLI::App& app);

/// Adds every sub-command, in the order in which `lorikeet --help` lists them.
inline void add_commands(CLI::App& app) {
  add_pretrain_command(app);
  add_preflight_command(app);
  add_consolidate_command(app);
  add_data_command(app);
  add_compare_command(app);
  add_score_command(app);
  add_generate_command(app);
  add_bench_command(app);
  add_config_reference_command(app);
}

}  // namespace lorikeet
