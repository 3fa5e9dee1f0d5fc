#include "lorikeet/analysis/step_profile.h"

#include <ATen/record_function.h>
#include <ATen/SequenceNumber.h>

#include <algorithm>
#include <chrono>
#include <vector>

namespace lorikeet {

namespace {

using Clock = std::chrono::steady_clock;

/// Autograd nodes numbered begin .. end - 1 were made by a part's forward.
struct Nodes {
  uint64_t begin, end;
  std::string part;
};

/// What runs now.
struct Frame {
  std::string name;
  bool is_backward;
  Clock::time_point begin;
  double inner = 0;  ///< seconds of frames inside
  uint64_t first_node = 0;
};

}  // namespace

struct StepProfile::State {
  std::map<std::string, double> seconds;
  std::vector<Frame> frames;
  std::vector<Nodes> nodes;

  std::string part_of(int64_t node) const {
    for (const Nodes& n : nodes) {  // the innermost part ends first
      const auto number = static_cast<uint64_t>(node);
      if (node >= 0 && n.begin <= number && number < n.end) return n.part;
    }
    return "rest";
  }
  bool is_in_backward() const {
    return std::any_of(frames.begin(), frames.end(), [](const Frame& f) { return f.is_backward; });
  }
  void enter(const at::RecordFunction& function) {
    const bool is_backward = function.scope() == at::RecordScope::BACKWARD_FUNCTION;
    const std::string name =
        is_backward ? "backward " + part_of(function.seqNr())
                    : (is_in_backward() ? "recompute " : "forward ") + std::string(function.name());
    frames.push_back({name, is_backward, Clock::now(), 0, at::sequence_number::peek()});
  }
  void leave(const at::RecordFunction& function) {
    const Frame frame = frames.back();
    frames.pop_back();
    const double all = std::chrono::duration<double>(Clock::now() - frame.begin).count();
    seconds[frame.name] += all - frame.inner;
    if (!frames.empty()) frames.back().inner += all;
    if (!frame.is_backward) {
      nodes.push_back({frame.first_node, at::sequence_number::peek(), function.name()});
    }
  }
};

namespace {

thread_local StepProfile::State* current = nullptr;

std::unique_ptr<at::ObserverContext> enter(const at::RecordFunction& function) {
  if (current != nullptr) current->enter(function);
  return nullptr;
}

void leave(const at::RecordFunction& function, at::ObserverContext*) {
  if (current != nullptr) current->leave(function);
}

}  // namespace

StepProfile::StepProfile() : state_(std::make_unique<State>()) {
  current = state_.get();
  callback_ = at::addThreadLocalCallback(
      at::RecordFunctionCallback(enter, leave)
          .scopes({at::RecordScope::USER_SCOPE, at::RecordScope::BACKWARD_FUNCTION}));
}

StepProfile::~StepProfile() {
  at::removeCallback(callback_);
  current = nullptr;
}

std::map<std::string, double> StepProfile::seconds() const { return state_->seconds; }

}  // namespace lorikeet
