#include "child_run.h"

#include <fmt/format.h>

#include <exception>
#include <filesystem>
#include <thread>

#include "checks.h"
#include "lorikeet/checkpoint/checkpoint.h"
#include "lorikeet/config/load.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/first_line.h"
#include "lorikeet/core/measure.h"
#include "meeting.h"

namespace lorikeet {

namespace {

using Clock = std::chrono::steady_clock;

/// How often a rank looks at its child, and how often the ranks tell each other.
constexpr auto kLook = std::chrono::milliseconds(50);
constexpr auto kBeat = std::chrono::milliseconds(500);
/// What the first rank says in the place of a problem.
const std::string kFarEnough = "far enough";

/// Of what is being handled.
std::string what_is_wrong() {
  try {
    throw;
  } catch (const std::exception& failure) {
    return first_line(failure.what());
  }
}

/// A rank that died first has said more than those that lost it, which end with code 6.
std::string worst_of(const std::vector<std::string>& problems) {
  std::string worst;
  for (const std::string& problem : problems) {
    if (problem.empty() || problem == kFarEnough) continue;
    if (problem.find("code 6") == std::string::npos) return problem;
    if (worst.empty()) worst = problem;
  }
  return worst;
}

}  // namespace

ChildRun::ChildRun(const RunConfig& config, Exchange& ranks, const PreflightOptions& options)
    : ranks_(ranks), options_(options) {
  const std::string name =
      gather(is_first() ? ScratchFolder::free_name(config.name) : std::string()).front();
  const RunConfig trial = trial_config(config, name);
  run_ = trial.output + "/" + trial.name;
  config_ = trial.output + "/config.yaml";
  try {
    if (is_first()) {
      scratch_.emplace(config.output, name);
      write_file_atomically(config_, dump_run_config(trial), ExitCode::kUsage);
    }
    if (!config.checkpoint.local.empty()) local_.emplace(config.checkpoint.local, name);
  } catch (const std::exception&) {
    problem_ = what_is_wrong();
  }
  problem_ = worst_of(gather(problem_));
}

std::vector<std::string> ChildRun::gather(const std::string& mine) {
  std::vector<std::string> all =
      ranks_.gather((signals_.stop_requested() ? "stop " : "go ") + mine);
  for (std::string& text : all) {
    if (text.starts_with("stop ")) {
      throw Error(ExitCode::kPreempted, is_first() ? "preflight: stopped by request" : "");
    }
    text.erase(0, std::string("go ").size());
  }
  return all;
}

/// What a rank has to say to the others.
struct ChildRun::Beat {
  bool is_far_enough = false;
  std::string problem = {};
};

/// Looks for a while, or until there is something to say.
ChildRun::Beat ChildRun::beat(std::optional<ChildProcess>& child,
                              const std::function<bool()>& is_far_enough, Clock::time_point start) {
  const auto end = Clock::now() + kBeat;
  try {
    while (!signals_.stop_requested()) {
      if (is_first() && is_far_enough()) {
        child->kill();  // at once: the next checkpoint may be near
        return {.is_far_enough = true};
      }
      if (!child->is_running()) return {.problem = "the run " + child->how_it_ended()};
      if (is_first() && seconds_since(start) > options_.limits.trial_seconds) {
        return {.problem = fmt::format("the run was at step {} after {:.0f} s", course().last(),
                                       options_.limits.trial_seconds)};
      }
      if (Clock::now() >= end) break;
      std::this_thread::sleep_for(kLook);
    }
  } catch (const std::exception&) {
    return {.problem = what_is_wrong()};
  }
  return {};
}

void ChildRun::start(std::optional<ChildProcess>& child, const std::string& meeting) {
  const size_t space = meeting.find(' ');
  child.emplace(
      std::vector<std::string>{options_.program, "pretrain", config_},
      std::vector<std::pair<std::string, std::string>>{{"MASTER_ADDR", meeting.substr(0, space)},
                                                       {"MASTER_PORT", meeting.substr(space + 1)},
                                                       {"TORCHELASTIC_USE_AGENT_STORE", "False"}},
      fmt::format("{}/rank_{:05}_{}.txt", std::filesystem::path(config_).parent_path().string(),
                  ranks_.rank(), ++starts_));
}

std::string ChildRun::run_until(const std::function<bool()>& is_far_enough) {
  const std::string meeting =
      gather(is_first() ? fmt::format("{} {}", own_address(options_.environment), free_port()) : "")
          .front();
  std::optional<ChildProcess> child;
  Beat mine;
  try {
    start(child, meeting);
  } catch (const std::exception&) {
    mine.problem = what_is_wrong();
  }
  const auto begin = Clock::now();
  std::string problem;
  for (bool is_last = false;;) {
    if (mine.problem.empty()) mine = beat(child, is_far_enough, begin);
    const std::vector<std::string> all = gather(mine.is_far_enough ? kFarEnough : mine.problem);
    // How the other children end once the first one is killed means nothing.
    if (problem.empty() && all.front() == kFarEnough) break;
    problem = worst_of(all);
    // One more round: whoever caused it may be seen only now.
    if (is_last) break;
    is_last = !problem.empty();
  }
  child.reset();
  gather("killed");  // before anybody starts again or clears what they write
  return problem;
}

Course ChildRun::course() const { return read_course(run_ + "/metrics.jsonl"); }

int64_t ChildRun::newest_checkpoint() const {
  const auto steps = CheckpointStore(run_, CheckpointConfig{}).list();
  return steps.empty() ? 0 : steps.front();
}

}  // namespace lorikeet
