#include "tools/child_run.h"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "lorikeet/core/error.h"

namespace lorikeet {

namespace {

std::atomic<pid_t> child{0};
std::atomic<bool> stop{false};
constexpr std::array kSignals = {SIGTERM, SIGINT, SIGUSR1};

void pass_on(int signal) {
  if (signal != SIGUSR1) stop = true;
  if (const pid_t pid = child; pid > 0) ::kill(pid, signal);
}

/// Between fork and exec: nothing here may allocate.
[[noreturn]] void become(char* const* arguments) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a run that nobody waits for would keep its folder locked
  ::setpgid(0, 0);                     // a terminal's Ctrl-C reaches it once, through us
  ::dup2(STDERR_FILENO, STDOUT_FILENO);
  for (const int signal : kSignals) std::signal(signal, SIG_DFL);
  ::execv("/proc/self/exe", arguments);
  ::_exit(127);
}

}  // namespace

int run_child(const std::vector<std::string>& arguments) {
  std::vector<std::string> texts = {"lorikeet"};
  texts.insert(texts.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (auto& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  for (const int signal : kSignals) std::signal(signal, pass_on);
  const pid_t pid = ::fork();
  if (pid < 0) {
    throw Error(ExitCode::kInternal,
                fmt::format("no process can be started: {}", std::strerror(errno)));
  }
  if (pid == 0) become(pointers.data());
  child = pid;
  if (stop) ::kill(pid, SIGTERM);  // came before there was anybody to pass it on to
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  child = 0;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

bool was_asked_to_stop() { return stop; }

}  // namespace lorikeet
