#pragma once
#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

namespace lorikeet {

/// A process that this one starts; it dies with the object, and with this process.
class ChildProcess {
 public:
  /// @param arguments    the program's path first
  /// @param environment  over this process's own
  /// @param output       file for standard output and standard error
  ChildProcess(const std::vector<std::string>& arguments,
               const std::vector<std::pair<std::string, std::string>>& environment,
               const std::string& output);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  bool is_running();
  /// With SIGKILL, and waits until it is gone.
  void kill();
  /// "was killed", "ended with code 4: " and the first `error:` line of its output.
  std::string how_it_ended() const;

 private:
  std::string output_;
  pid_t pid_ = 0;  // 0: gone
  int status_ = 0;
};

}  // namespace lorikeet
