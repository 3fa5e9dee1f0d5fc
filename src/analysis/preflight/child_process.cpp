#include "child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>

#include "lorikeet/core/error.h"

extern char** environ;

namespace lorikeet {

namespace {

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (std::string& text : texts) all.push_back(text.data());
  all.push_back(nullptr);
  return all;
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& arguments,
                           const std::vector<std::pair<std::string, std::string>>& environment,
                           const std::string& output)
    : output_(output) {
  std::vector<std::string> words = arguments, variables;
  for (const auto& [name, value] : environment) variables.push_back(name + "=" + value);
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    bool is_replaced = false;
    for (const auto& [name, value] : environment) is_replaced |= text.starts_with(name + "=");
    if (!is_replaced) variables.push_back(text);
  }
  // All memory is taken before the fork: other threads may hold the allocator's lock in the child.
  const std::vector<char*> argv = pointers(words), envp = pointers(variables);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) {
    pid_ = 0;
    throw Error(ExitCode::kUsage,
                fmt::format("{}: cannot be started: {}", arguments[0], std::strerror(errno)));
  }
  if (pid_ > 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int file = ::open(output_.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0644);
  if (file < 0 || ::getppid() != parent) ::_exit(127);
  ::dup2(file, 1);
  ::dup2(file, 2);
  ::execve(argv[0], argv.data(), envp.data());
  ::_exit(127);
}

ChildProcess::~ChildProcess() { kill(); }

bool ChildProcess::is_running() {
  if (pid_ > 0 && ::waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = 0;
  return pid_ > 0;
}

void ChildProcess::kill() {
  if (pid_ == 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
}

std::string ChildProcess::how_it_ended() const {
  if (WIFSIGNALED(status_)) return fmt::format("was killed by signal {}", WTERMSIG(status_));
  std::string text = fmt::format("ended with code {}", WEXITSTATUS(status_));
  std::ifstream lines(output_);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("error: ")) return text + ": " + line.substr(std::strlen("error: "));
  }
  return text;
}

}  // namespace lorikeet
