// The file system of the run's checkpoints.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "checks.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/core/measure.h"
#include "scratch.h"

namespace lorikeet {

namespace {

constexpr int64_t kBytesOfParameter = 12;   ///< itself and two moments
constexpr int64_t kCheckpointsOfTrial = 3;  ///< trial_config keeps two, and one is written
constexpr int64_t kChunk = 8 << 20;
constexpr int64_t kSmallestFile = 64 << 20;  ///< smaller ones say little of a disk
constexpr int64_t kLargestFile = 2LL << 30;
constexpr double kMostSeconds = 30;  ///< of writing

/// Bytes that no file system can pack.
std::vector<char> noise(int64_t rank) {
  std::vector<char> bytes(kChunk);
  auto state = static_cast<uint64_t>(rank) * 2 + 0x9e3779b97f4a7c15ULL;
  for (size_t i = 0; i + sizeof state <= bytes.size(); i += sizeof state) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    std::memcpy(&bytes[i], &state, sizeof state);
  }
  return bytes;
}

struct Rates {
  double write, read;  ///< bytes a second
  int64_t bytes;
};

Rates measure(const std::string& folder, int64_t bytes, int64_t rank) {
  ScratchFile file(folder);
  std::vector<char> chunk = noise(rank);
  Hasher64 written, found;
  Rates rates{};
  double write_seconds = 0, read_seconds = 0;
  const auto timed = [](double& seconds, const auto& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    seconds += seconds_since(start);
  };
  while (rates.bytes < bytes && write_seconds < kMostSeconds) {
    std::memcpy(chunk.data(), &rates.bytes, sizeof rates.bytes);  // no two chunks are the same
    written.update(chunk.data(), chunk.size());
    timed(write_seconds, [&] { file.write(chunk); });
    rates.bytes += kChunk;
  }
  timed(write_seconds, [&] { file.sync(); });
  file.rewind();
  size_t read = 1;
  while (read > 0) {
    timed(read_seconds, [&] { read = file.read(chunk); });
    found.update(chunk.data(), read);
  }
  if (written.digest() != found.digest()) {
    throw Error(ExitCode::kCheckpoint,
                fmt::format("{}: reads back other bytes than were written", folder));
  }
  rates.write = static_cast<double>(rates.bytes) / write_seconds;
  rates.read = static_cast<double>(rates.bytes) / read_seconds;
  return rates;
}

/// How often the run saves, its last step included.
int64_t num_saves(const Period& every, const RunPlan& plan) {
  if (every.is_never()) return 0;
  if (every.unit == Period::Unit::kSeconds) return plan.total_steps;  // who knows: at most
  return plan.total_steps /
         std::max<int64_t>(1, every.to_steps(plan.total_steps, plan.tokens_per_step));
}

std::string run_folder(const RunConfig& config) { return config.output + "/" + config.name; }

void check_rate(Checklist& list, const std::string& name, const std::string& folder, int64_t bytes,
                World& world, const PreflightLimits& limits) {
  const std::string rule =
      "read as written" +
      (limits.storage_rate > 0 ? fmt::format(", at least {}/s", to_size(limits.storage_rate)) : "");
  list.run(name, rule, [&] {
    const Rates rates =
        measure(folder, std::clamp(bytes, kSmallestFile, kLargestFile), world.rank());
    const double slower = std::min(rates.write, rates.read);
    return judge(
        slower >= limits.storage_rate,
        fmt::format("{}/s written and synced, {}/s read; {} a rank takes {:.1f} s",
                    to_size(rates.write), to_size(rates.read), to_size(static_cast<double>(bytes)),
                    static_cast<double>(bytes) / rates.write),
        -slower);
  });
}

}  // namespace

int64_t storage_needed(const RunConfig& config, const RunPlan& plan) {
  const CheckpointConfig& checkpoint = config.checkpoint;
  const int64_t saves = num_saves(checkpoint.every, plan) + 1;
  const int64_t kept_for_good =
      checkpoint.keep_every.is_never() ? 0 : num_saves(checkpoint.keep_every, plan);
  const int64_t together = std::min(saves, checkpoint.keep_last + kept_for_good + 1);
  const int64_t parameters = plan.parameters.total();
  return std::max(together * parameters * kBytesOfParameter + parameters * 4,
                  kCheckpointsOfTrial * parameters * kBytesOfParameter);
}

bool check_storage(Checklist& list, const RunConfig& config, World& world,
                   const PreflightLimits& limits) {
  const RunPlan plan = plan_run(config);
  const int64_t checkpoint = plan.parameters.total() * kBytesOfParameter;
  const int64_t a_rank = checkpoint / world.mesh().shape().shard;
  const bool has_room = list.run("storage room", "the run's checkpoints and model", [&] {
    const int64_t needed = storage_needed(config, plan);
    const uint64_t free = free_disk_bytes(run_folder(config), ExitCode::kCheckpoint);
    return judge(
        static_cast<uint64_t>(needed) <= free,
        fmt::format("{} free, {} needed; a checkpoint is {}", to_size(static_cast<double>(free)),
                    to_size(static_cast<double>(needed)), to_size(static_cast<double>(checkpoint))),
        -static_cast<double>(free));
  });
  if (!has_room) return false;
  check_rate(list, "storage", run_folder(config), a_rank, world, limits);
  if (!config.checkpoint.local.empty()) {
    check_rate(list, "local storage", config.checkpoint.local, a_rank, world, limits);
  }
  return true;
}

}  // namespace lorikeet
