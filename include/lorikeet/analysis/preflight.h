#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "lorikeet/config/run_config.h"
#include "lorikeet/parallel/launch.h"
#include "lorikeet/parallel/world.h"

/// Whether this machine, or these machines, can do the run that a configuration describes: short
/// trials of everything that a long run depends on.
namespace lorikeet {

enum class Verdict { kGo, kSkipped, kNoGo };

/// One line of the table.
struct PreflightCheck {
  std::string name;
  Verdict verdict = Verdict::kGo;
  std::string figure = {};  ///< what was found; why it was skipped
  std::string rule = {};    ///< what it has to be
  double severity = 0;      ///< where ranks have one verdict, the highest one's figure is shown
  int64_t rank = 0;         ///< whose figure it is
};

struct PreflightReport {
  std::vector<PreflightCheck> checks;
  bool is_go() const;
};

/// What the machine has to reach. Rates are those of one rank while all work at once.
struct PreflightLimits {
  double bandwidth = 0;                  ///< bytes a second of a collective; 0: any
  double storage_rate = 0;               ///< bytes a second, written and read; 0: any
  int64_t memory_slack = 1'000'000'000;  ///< above the plan: libraries, tables, the allocator
  double trial_seconds = 600;            ///< for each of the two halves of kill and resume
};

struct PreflightOptions {
  std::string program;  ///< of which kill and resume starts a child on each rank
  std::string code_version = {};
  LaunchEnvironment environment = {};
  PreflightLimits limits = {};
};

/// Whether so many ranks can share the work as the configuration says; before they meet.
PreflightCheck check_layout(const RunConfig& config, int64_t world_size);

/// All checks, in the order of the table: the ranks' agreement, operators, collectives, storage,
/// then a short run of the same configuration in child processes, killed and resumed, with its
/// memory. What a failed check makes pointless is skipped. Called on all ranks together; they get
/// the same report. Leaves nothing on disk; what a killed one has left the next one clears.
/// @throws Error(kUsage) where the run is under way, Error(kCommunication) where a rank is lost,
/// Error(kPreempted) where one was asked to stop
PreflightReport preflight(const RunConfig& config, World& world, const PreflightOptions& options);

/// A line a check, and the last word: "go", or "no-go" with what is the matter.
std::string to_text(const PreflightReport& report);
std::string to_json(const PreflightReport& report);

}  // namespace lorikeet
