#pragma once
#include <string>
#include <vector>

namespace lorikeet {

/// Runs this program again with `arguments` and waits for it; what it prints goes to standard
/// error. SIGTERM, SIGINT and SIGUSR1 are passed on to it; it ends when this process does.
/// @return its exit code, or 128 + the signal that ended it
/// @throws Error(kInternal) where the system starts no process
int run_child(const std::vector<std::string>& arguments);

/// Whether SIGTERM or SIGINT has come while a child ran.
bool was_asked_to_stop();

}  // namespace lorikeet
