// What must be the same on all ranks, and fit together.
#include <fmt/format.h>

#include "checks.h"
#include "lorikeet/config/load.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/data/batch_loader.h"
#include "lorikeet/data/dataset.h"

namespace lorikeet {

namespace {

/// "parameters a rank": "4" where rank 0 has "8".
std::string first_difference(const std::string& mine, const std::string& first) {
  const auto a = config_entries(parse_run_config(mine, "this rank"));
  const auto b = config_entries(parse_run_config(first, "rank 0"));
  for (const auto& [key, value] : a) {
    const auto other = b.find(key);
    if (other == b.end()) return fmt::format("{}: {} here alone", key, value);
    if (other->second != value) {
      return fmt::format("{}: {} here, {} on rank 0", key, value, other->second);
    }
  }
  return "rank 0 has more keys";
}

/// Each rank gives its text to all.
Finding compare(Exchange& ranks, const std::string& mine, const std::string& shown,
                const std::function<std::string(const std::string& first)>& difference) {
  const std::string first = ranks.gather(mine).front();
  return mine == first ? go(shown) : no_go(difference(first));
}

/// @throws Error(kData, kUsage) where training would
std::string open_data(const RunConfig& config) {
  if (config.data.shards.empty()) throw Error(ExitCode::kUsage, "data.shards: is not set");
  const Dataset dataset(config.data.shards);
  if (dataset.vocab_size() > config.model.vocab_size) {
    throw Error(ExitCode::kData, fmt::format("a vocabulary of {} pieces, model.vocab_size is {}",
                                             dataset.vocab_size(), config.model.vocab_size));
  }
  const LoaderOptions options{.context_length = config.model.context_length,
                              .seed = config.seed,
                              .order = config.data.order,
                              .mixture = config.data.mixture};
  BatchLoader(dataset, options).require_batch(config.train.batch_sequences);
  return to_hex(dataset.fingerprint());
}

}  // namespace

PreflightCheck check_layout(const RunConfig& config, int64_t world_size) {
  const int64_t step = config.train.micro_batch * world_size;
  PreflightCheck check{.name = "layout",
                       .rule = "replicate x shard are the ranks, the batch a multiple of theirs"};
  try {
    const MeshShape shape = mesh_shape(config.parallel, world_size);
    check.figure = fmt::format("{} ranks, replicate {} x shard {}; {} sequences a step", world_size,
                               shape.replicate, shape.shard, config.train.batch_sequences);
    if (config.train.batch_sequences % step == 0) return check;
    check.figure += fmt::format(", no multiple of {}", step);
  } catch (const Error& error) {
    check.figure = error.what();
  }
  check.verdict = Verdict::kNoGo;
  return check;
}

bool check_agreement(Checklist& list, const RunConfig& config, World& world,
                     const std::string& code_version) {
  Exchange& ranks = world.exchange();
  bool agree = list.run("program", "the same on all ranks", [&] {
    return compare(ranks, code_version, code_version, [&](const std::string& first) {
      return fmt::format("{} here, {} on rank 0", code_version, first);
    });
  });
  const std::string text = dump_run_config(config);
  agree &= list.run("configuration", "the same on all ranks", [&] {
    return compare(ranks, text, config.name,
                   [&](const std::string& first) { return first_difference(text, first); });
  });
  agree &= list.run("data", "whole, fits the model, the same on all ranks", [&] {
    std::string fingerprint, problem;
    try {
      fingerprint = open_data(config);
    } catch (const Error& error) {
      problem = error.what();
    }
    const Finding compared =  // also where it is broken: the others wait for it
        compare(ranks, fingerprint, "fingerprint " + fingerprint, [&](const std::string& first) {
          return fmt::format("fingerprint {} here, {} on rank 0", fingerprint, first);
        });
    return problem.empty() ? compared : no_go(problem);
  });
  return agree;
}

}  // namespace lorikeet
