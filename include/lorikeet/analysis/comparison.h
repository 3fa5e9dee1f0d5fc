#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lorikeet/analysis/run_curve.h"
#include "lorikeet/config/run_config.h"

namespace lorikeet {

/// A run of a setting with one seed.
struct ComparedRun {
  int64_t seed = 0;
  std::string name;          ///< of the run: its folder is OUTPUT/NAME
  std::string state;         ///< for people: "finished", "at step 20 of 60", "diverged", ...
  bool is_left_out = false;  ///< diverged or failed
  RunCurve curve;
};

/// One of the configurations that are compared, with its seeds.
struct ComparedSetting {
  std::string name;  ///< of the configuration, seed apart
  RunConfig config;  ///< with the first seed
  std::vector<ComparedRun> runs;
};

/// Of the seeds that have a value; NaN where none has.
struct Spread {
  double mean, deviation;  ///< sample standard deviation; 0 of one seed
  double low, high;
  int64_t count = 0;  ///< seeds that have a value
};
Spread spread_of(const std::vector<double>& values);

/// Seeds of one setting beside those of the reference. Differences are taken seed by seed: runs of
/// one seed begin alike, and see the same sequences in the same order where data and batch agree.
struct SettingResult {
  std::string name;
  std::vector<std::string> differences;  ///< "key: value" where its configuration differs
  std::vector<std::string> remarks;      ///< what a reader must know: runs left out or not at their
                                         ///< end, another validation set
  int64_t total_parameters = 0, active_parameters = 0, segment_length = 0;
  int64_t num_seeds = 0;
  int64_t num_pairs = 0;                     ///< seeds that the reference has, too
  Spread loss, loss_difference;              ///< validation, mean over domains, at equal tokens
  Spread loss_at_time, difference_at_time;   ///< after equal time in training steps
  Spread training_loss, first_segment_loss;  ///< over the last twentieth of the equal tokens
  Spread tokens_to_reference;                ///< until the reference's loss at equal tokens
  Spread tokens_per_second;
  std::map<std::string, Spread> domains, domain_differences;  ///< at equal tokens
};

struct Comparison {
  std::string reference;  ///< name of the setting that the others are compared with
  double equal_tokens = 0;
  double equal_seconds = 0;
  std::vector<SettingResult> settings;
};

/// The setting of this name; "": the first dense one, else the first.
/// @throws Error(kUsage) for another name
const ComparedSetting& find_reference(const std::vector<ComparedSetting>& settings,
                                      const std::string& name);

/// The reference's run of a seed; null where it has none, or none that holds.
const ComparedRun* partner(const ComparedSetting& reference, int64_t seed);

/// Aligns runs by tokens: each is read where the shortest ends, so that a run that is not at its
/// end takes part.
/// @param reference see find_reference
/// @throws Error(kUsage) where a run has not been validated yet, Error(kDiverged) where none holds
Comparison compare(const std::vector<ComparedSetting>& settings, const std::string& reference = "");

/// Tables for people.
std::string to_text(const Comparison& comparison);
/// Everything, curves too. NaN is null.
std::string to_json(const Comparison& comparison, const std::vector<ComparedSetting>& settings);
/// A page with tables and curves.
std::string to_html(const Comparison& comparison, const std::vector<ComparedSetting>& settings);

}  // namespace lorikeet
