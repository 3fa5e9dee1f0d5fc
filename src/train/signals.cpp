#include "lorikeet/train/signals.h"

#include <atomic>
#include <csignal>

namespace lorikeet {

namespace {

std::atomic<bool> stop{false};
std::atomic<bool> checkpoint{false};

void handle(int signal) {
  if (signal == SIGUSR1) {
    checkpoint = true;
    return;
  }
  stop = true;
  std::signal(SIGINT, SIG_DFL);
}

}  // namespace

SignalWatch::SignalWatch() {
  stop = false;
  checkpoint = false;
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) std::signal(signal, handle);
}

SignalWatch::~SignalWatch() {
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) std::signal(signal, SIG_DFL);
}

bool SignalWatch::stop_requested() const { return stop; }
bool SignalWatch::take_checkpoint_request() { return checkpoint.exchange(false); }

}  // namespace lorikeet
