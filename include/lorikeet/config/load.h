#pragma once
#include <map>
#include <string>
#include <vector>

#include "lorikeet/config/run_config.h"

namespace lorikeet {

/// Reads a run's configuration: defaults, then the file, then `overrides` ("key.path=value", the
/// value in YAML), each winning over the one before, key by key. The result is valid (validate.h).
/// @throws Error (usage) with every unknown key and every wrong value at once, one line each:
///   run.yaml:14: model.feed_forward.segment_length: 300 does not divide model.context_length 4096
RunConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides = {});

/// The same for a text; `name` stands for the file in errors.
RunConfig parse_run_config(const std::string& yaml_text, const std::string& name,
                           const std::vector<std::string>& overrides = {});

/// YAML with every key at its value; parses to the same configuration.
std::string dump_run_config(const RunConfig& config);

/// The same as dotted keys and values, for comparing two runs: {"model.num_heads": "8", ...}.
std::map<std::string, std::string> config_entries(const RunConfig& config);

/// Every key with type, default and meaning, as Markdown: docs/config.md.
std::string config_reference();

}  // namespace lorikeet
