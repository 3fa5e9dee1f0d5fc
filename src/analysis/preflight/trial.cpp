// A short run of the configuration in child processes: killed, resumed, measured.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "checks.h"
#include "child_process.h"
#include "lorikeet/checkpoint/checkpoint.h"
#include "lorikeet/config/load.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/measure.h"

namespace lorikeet {

namespace {

using Clock = std::chrono::steady_clock;

constexpr double kStepsASave = 4;
/// A step may end between the look that finds the first checkpoint and the kill, and a second
/// checkpoint with it.
constexpr int kAttempts = 3;

/// A folder beside the run's that rank 0 makes and removes, whatever happens.
class ScratchFolder {
 public:
  ScratchFolder(const RunConfig& config, World& world) : is_owner_(world.is_first()) {
    std::string mine;
    if (is_owner_) {
      std::error_code ignored;  // mkdtemp says what is wrong
      std::filesystem::create_directories(config.output, ignored);
      mine = fmt::format("{}/.preflight_{}_XXXXXX", config.output, config.name);
      if (::mkdtemp(mine.data()) == nullptr) mine.clear();
    }
    path_ = world.exchange().gather(mine).front();
    if (path_.empty()) {
      throw Error(ExitCode::kUsage, fmt::format("{}: no folder can be made in it", config.output));
    }
  }
  ~ScratchFolder() {
    std::error_code ignored;
    if (is_owner_) std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  bool is_owner_;
  std::string path_;
};

int free_port() {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  socklen_t size = sizeof address;
  ::bind(descriptor, reinterpret_cast<sockaddr*>(&address), size);
  ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(descriptor);
  return ntohs(address.sin_port);
}

/// Where the first rank's child is to be found, by all.
std::string own_address(const LaunchEnvironment& environment) {
  if (environment.local_world_size == environment.world_size) return "127.0.0.1";
  if (!environment.agent_hosts_store) return environment.master_address;
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

/// The steps that a run has logged.
struct Course {
  std::map<int64_t, double> losses;
  std::map<int64_t, double> tokens_per_second;
  int64_t peak_memory = 0;  ///< with the first of them
  int64_t last() const { return losses.empty() ? 0 : losses.rbegin()->first; }
};

Course read_course(const std::string& path) {
  Course course;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line) && !file.eof();) {  // a half line is left out
    const auto row = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!row.is_object() || !row.contains("loss")) continue;
    const int64_t step = row.at("step");
    const auto number = [&](const char* key) {
      return row.at(key).is_number() ? row.at(key).get<double>() : std::nan("");
    };
    course.losses[step] = number("loss");
    course.tokens_per_second[step] = number("tokens_per_second");
    if (course.losses.size() == 1) course.peak_memory = row.at("peak_memory_bytes");
  }
  return course;
}

/// The run in child processes, one a rank.
class Runner {
 public:
  Runner(const RunConfig& config, World& world, const PreflightOptions& options)
      : world_(world), options_(options), scratch_(config, world) {
    const RunConfig trial = trial_config(config, scratch_.path());
    run_ = trial.output + "/" + trial.name;
    config_ = scratch_.path() + "/config.yaml";
    if (world.is_first()) {
      write_file_atomically(config_, dump_run_config(trial), ExitCode::kUsage);
    }
    world.exchange().gather("written");
  }

  /// Starts all ranks and kills them with SIGKILL as soon as the first one has come far enough.
  /// @return empty, or why it has not; the same on all ranks
  std::string run_until(const std::function<bool()>& is_far_enough) {
    Exchange& ranks = *world_.save_exchange();  // which waits long enough
    const std::string meeting =
        ranks.gather(fmt::format("{} {}", own_address(options_.environment), free_port())).front();
    const size_t space = meeting.find(' ');
    const std::string output =
        fmt::format("{}/rank_{:05}_{}.txt", scratch_.path(), world_.rank(), ++starts_);
    ChildProcess child({options_.program, "pretrain", config_},
                       {{"MASTER_ADDR", meeting.substr(0, space)},
                        {"MASTER_PORT", meeting.substr(space + 1)},
                        {"TORCHELASTIC_USE_AGENT_STORE", "False"}},
                       output);
    std::string problem;
    if (world_.is_first()) problem = watch(child, is_far_enough);
    if (world_.is_first()) child.kill();  // at once: the next checkpoint may be near
    ranks.gather("far enough");
    if (!world_.is_first() && !child.is_running()) problem = "the run " + child.how_it_ended();
    child.kill();
    const std::vector<std::string> problems = ranks.gather(problem);
    // A rank that died first has said more than those that lost it.
    for (const std::string& text : problems) {
      if (!text.empty() && text.find("code 6") == std::string::npos) return text;
    }
    return problems.front();
  }

  Course course() const { return read_course(run_ + "/metrics.jsonl"); }
  int64_t newest_checkpoint() const {
    const auto steps = CheckpointStore(run_, CheckpointConfig{}).list();
    return steps.empty() ? 0 : steps.front();
  }

 private:
  std::string watch(ChildProcess& child, const std::function<bool()>& is_far_enough) const {
    const auto start = Clock::now();
    while (!is_far_enough()) {
      if (!child.is_running()) return "the run " + child.how_it_ended();
      if (seconds_since(start) > options_.limits.trial_seconds) {
        return fmt::format("the run was at step {} after {:.0f} s", course().last(),
                           options_.limits.trial_seconds);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return "";
  }

  World& world_;
  const PreflightOptions& options_;
  ScratchFolder scratch_;
  std::string run_, config_;
  int starts_ = 0;
};

void compare(const Course& killed, const Course& resumed, Trial& trial) {
  for (auto step = killed.losses.upper_bound(trial.resumed_at); step != killed.losses.end();
       ++step) {
    const auto again = resumed.losses.find(step->first);
    if (again == resumed.losses.end()) {
      trial.failure = fmt::format("step {} was not taken again", step->first);
      return;
    }
    const double difference = std::abs(step->second - again->second);
    trial.largest_difference =
        std::max(trial.largest_difference, std::isnan(difference) ? 1e300 : difference);
  }
}

/// The first rank's numbers on all.
void share(Trial& trial, Exchange& ranks) {
  const nlohmann::json mine = {trial.resumed_at,        trial.killed_at,   trial.largest_difference,
                               trial.tokens_per_second, trial.peak_memory, trial.failure};
  const auto replace = nlohmann::json::error_handler_t::replace;
  const auto first =
      nlohmann::json::parse(ranks.gather(mine.dump(-1, ' ', false, replace)).front());
  trial = {first[5], first[0], first[1], first[2], first[3], first[4]};
}

}  // namespace

RunConfig trial_config(const RunConfig& config, const std::string& folder) {
  RunConfig trial = config;
  trial.output = folder;
  trial.name = "trial";
  if (total_steps(config) < 1'000'000) {  // it is killed long before
    trial.train.tokens = {};
    trial.train.steps = 1'000'000;
  }
  trial.train.dense_warmup = Period::never();
  trial.checkpoint.every = Period::steps(kStepsASave);
  trial.checkpoint.keep_last = 2;
  trial.checkpoint.keep_every = trial.evaluate.every = Period::never();
  trial.log = {};
  trial.log.every = Period::steps(1);
  trial.log.tensorboard = false;
  trial.log.peak_flops = 1;  // else it is measured
  return trial;
}

Trial run_trial(const RunConfig& config, World& world, const PreflightOptions& options) {
  Runner runner(config, world, options);
  Trial trial;
  Course killed;
  for (int attempt = 0; attempt < kAttempts && trial.resumed_at == 0; ++attempt) {
    trial.failure = runner.run_until([&] {
      const int64_t checkpoint = runner.newest_checkpoint();
      return checkpoint > 0 && runner.course().last() > checkpoint;
    });
    if (world.is_first()) {
      killed = runner.course();
      trial.killed_at = killed.last();
      trial.peak_memory = killed.peak_memory;
      const int64_t checkpoint = runner.newest_checkpoint();
      if (trial.failure.empty() && checkpoint < trial.killed_at) trial.resumed_at = checkpoint;
    }
    share(trial, world.exchange());
    if (!trial.failure.empty()) return trial;
  }
  if (trial.resumed_at == 0) {
    trial.failure = "every kill met a checkpoint: no step was left to be taken again";
    return trial;
  }
  // Until it is cut back the file ends with what the killed run has left.
  trial.failure = runner.run_until([&] { return runner.course().last() > trial.killed_at; });
  if (world.is_first() && trial.failure.empty()) {
    compare(killed, runner.course(), trial);
    std::vector<double> rates;
    for (const auto& [step, rate] : killed.tokens_per_second) rates.push_back(rate);
    std::sort(rates.begin(), rates.end());
    trial.tokens_per_second = rates.at(rates.size() / 2);
  }
  share(trial, world.exchange());
  return trial;
}

void check_trial(Checklist& list, const Trial& trial, const RunConfig& config, const RunPlan& plan,
                 const PreflightLimits& limits) {
  const bool was_resumed =
      list.run("kill and resume", "the same losses to the last bit", [&]() -> Finding {
        if (!trial.failure.empty()) return no_go(trial.failure);
        const std::string steps =
            fmt::format("killed at step {}, resumed at {}", trial.killed_at, trial.resumed_at);
        if (trial.largest_difference == 0) return go(steps + ", the same");
        return no_go(fmt::format("{}, losses differ by {:.1e}", steps, trial.largest_difference));
      });
  const auto slack = static_cast<double>(limits.memory_slack);
  list.run("memory", fmt::format("at most the plan, a tenth, and {}", to_size(slack)), [&] {
    if (trial.peak_memory == 0) return skipped("no step was taken");
    const auto planned = static_cast<double>(plan.memory.total());
    const auto peak = static_cast<double>(trial.peak_memory);
    return judge(peak <= 1.1 * planned + slack,
                 fmt::format("{} in a first step, planned {}", to_size(peak), to_size(planned)));
  });
  list.run("speed", "", [&] {
    if (!was_resumed) return skipped("the run did not come so far");
    const auto tokens = static_cast<double>(total_steps(config) * tokens_per_step(config));
    return go(fmt::format("{:.0f} tokens/s; the run's {:.3g} tokens take {:.1f} hours",
                          trial.tokens_per_second, tokens,
                          tokens / trial.tokens_per_second / 3600));
  });
}

}  // namespace lorikeet
