#include "lorikeet/parallel/launch.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <limits>

#include "lorikeet/core/error.h"
#include "slurm_lists.h"

namespace lorikeet {

namespace {

using Launcher = LaunchEnvironment::Launcher;

// Ports for Slurm's jobs: below those that Linux gives to outgoing connections (32768 on).
constexpr int64_t kFirstJobPort = 20000, kNumJobPorts = 10000;

constexpr char kTorchrunHint[] =
    "torchrun sets it (scripts/launch/torchrun.sh); for a single process unset RANK and WORLD_SIZE";
constexpr char kSlurmHint[] =
    "srun sets it (scripts/launch/srun.sh); for a single process ask for one task";
constexpr char kOpenMpiHint[] =
    "mpirun sets it (scripts/launch/mpirun.sh); for a single process do without mpirun";

[[noreturn]] void refuse(std::string_view name, const std::string& what, const std::string& hint) {
  throw Error(ExitCode::kUsage, fmt::format("environment variable {}: {}", name, what), hint);
}

class Variables {
 public:
  Variables(const VariableLookup& lookup, const char* hint) : lookup_(lookup), hint_(hint) {}

  std::optional<std::string> find(std::string_view name) const {
    std::optional<std::string> value = lookup_(name);
    return value && value->empty() ? std::nullopt : value;
  }
  bool has(std::string_view name) const { return find(name).has_value(); }

  std::string text(std::string_view name) const {
    const auto value = find(name);
    if (!value) refuse(name, "is not set", hint_);
    return *value;
  }

  int64_t integer(std::string_view name, int64_t lowest,
                  int64_t highest = std::numeric_limits<int>::max()) const {
    const std::string value = text(name);
    int64_t number = 0;
    const char* end = value.data() + value.size();
    const auto [stop, failure] = std::from_chars(value.data(), end, number);
    if (failure != std::errc() || stop != end || number < lowest || number > highest) {
      refuse(name, fmt::format("'{}' is not an integer from {} to {}", value, lowest, highest),
             hint_);
    }
    return number;
  }
  int integer_or(std::string_view name, int lowest, int otherwise) const {
    return has(name) ? static_cast<int>(integer(name, lowest)) : otherwise;
  }

  const char* hint() const { return hint_; }

 private:
  const VariableLookup& lookup_;
  const char* hint_;
};

// The variables that the members of an environment were read from, for messages.
struct Names {
  std::string_view rank, world_size, local_rank, local_world_size;
};

// What holds of any placement of ranks on nodes in which local ranks follow the order of ranks.
void check_ranks(const LaunchEnvironment& e, const Names& names, const char* hint) {
  const auto check = [&](bool holds, std::string_view name, int value, std::string_view rule,
                         std::string_view other, int limit) {
    if (!holds) refuse(name, fmt::format("{} {} {} {}", value, rule, other, limit), hint);
  };
  check(e.rank < e.world_size, names.rank, e.rank, "is not below", names.world_size, e.world_size);
  check(e.local_rank < e.local_world_size, names.local_rank, e.local_rank, "is not below",
        names.local_world_size, e.local_world_size);
  check(e.local_world_size <= e.world_size, names.local_world_size, e.local_world_size,
        "is more than", names.world_size, e.world_size);
  check(e.local_rank <= e.rank, names.local_rank, e.local_rank, "is more than", names.rank, e.rank);
  check(e.local_world_size - e.local_rank <= e.world_size - e.rank, names.rank, e.rank,
        fmt::format("of {} {} leaves too few ranks for {} {} of", names.world_size, e.world_size,
                    names.local_rank, e.local_rank),
        names.local_world_size, e.local_world_size);
}

// MASTER_ADDR and MASTER_PORT, where they are set.
void read_master(const Variables& variables, LaunchEnvironment& e) {
  if (const auto address = variables.find("MASTER_ADDR")) {
    const bool has_port =
        address->find(':') != std::string::npos && address->find(':') == address->rfind(':');
    if (has_port || address->find_first_of(" \t\n/,[]") != std::string::npos) {
      refuse("MASTER_ADDR", fmt::format("'{}' is not one host's name or address", *address),
             "give the name alone, and the port in MASTER_PORT");
    }
    e.master_address = *address;
  }
  if (variables.has("MASTER_PORT")) {
    e.master_port = static_cast<int>(variables.integer("MASTER_PORT", 1, 65535));
  }
}

// RANK set by hand, the same for all tasks of an srun or mpirun: every process would wait for the
// others. A batch script's own SLURM_PROCID says nothing: only steps have a node list.
void check_hand_made_rank(const Variables& variables, const LaunchEnvironment& e) {
  const bool is_mpi = variables.has("OMPI_COMM_WORLD_RANK");
  const char* rank = is_mpi ? "OMPI_COMM_WORLD_RANK" : "SLURM_PROCID";
  const char* size = is_mpi ? "OMPI_COMM_WORLD_SIZE" : "SLURM_NTASKS";
  if (!variables.has(rank) || !variables.has(size)) return;
  if (!is_mpi && !variables.has("SLURM_STEP_NODELIST")) return;
  if (variables.integer(size, 1) == e.world_size && variables.integer(rank, 0) != e.rank) {
    refuse("RANK",
           fmt::format("{} contradicts {} {} of {} processes", e.rank, rank,
                       variables.integer(rank, 0), e.world_size),
           "unset RANK: the launcher's own variables are read");
  }
}

// Also whatever else sets PyTorch's variables by hand.
std::optional<LaunchEnvironment> read_torchrun(const VariableLookup& lookup) {
  const Variables variables(lookup, kTorchrunHint);
  if (!variables.has("RANK") && !variables.has("TORCHELASTIC_RUN_ID")) return std::nullopt;
  LaunchEnvironment e;
  e.launcher = Launcher::kTorchrun;
  e.rank = static_cast<int>(variables.integer("RANK", 0));
  e.world_size = static_cast<int>(variables.integer("WORLD_SIZE", 1));
  const bool is_alone = e.world_size == 1;  // then nobody needs to be told where to meet
  if (!is_alone || variables.has("LOCAL_RANK")) {
    e.local_rank = static_cast<int>(variables.integer("LOCAL_RANK", 0));
  }
  if (!is_alone || variables.has("LOCAL_WORLD_SIZE")) {
    e.local_world_size = static_cast<int>(variables.integer("LOCAL_WORLD_SIZE", 1));
  }
  check_ranks(e, {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"}, variables.hint());
  e.node_rank = variables.integer_or("GROUP_RANK", 0, (e.rank - e.local_rank) / e.local_world_size);
  if (!is_alone) {
    variables.text("MASTER_ADDR");
    variables.text("MASTER_PORT");
  }
  read_master(variables, e);
  e.restart_count = variables.integer_or("TORCHELASTIC_RESTART_COUNT", 0, 0);
  const std::string agent = variables.find("TORCHELASTIC_USE_AGENT_STORE").value_or("False");
  if (agent != "True" && agent != "False") {
    refuse("TORCHELASTIC_USE_AGENT_STORE", fmt::format("'{}' is neither True nor False", agent),
           variables.hint());
  }
  e.agent_hosts_store = agent == "True";
  e.run_id = variables.find("TORCHELASTIC_RUN_ID").value_or("");
  if (e.run_id.empty()) check_hand_made_rank(variables, e);
  return e;
}

std::optional<LaunchEnvironment> read_open_mpi(const VariableLookup& lookup) {
  const Variables variables(lookup, kOpenMpiHint);
  const Names names = {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                       "OMPI_COMM_WORLD_LOCAL_SIZE"};
  if (!variables.has(names.rank) && !variables.has(names.world_size)) return std::nullopt;
  LaunchEnvironment e;
  e.launcher = Launcher::kOpenMpi;
  e.rank = static_cast<int>(variables.integer(names.rank, 0));
  e.world_size = static_cast<int>(variables.integer(names.world_size, 1));
  e.local_rank = static_cast<int>(variables.integer(names.local_rank, 0));
  e.local_world_size = static_cast<int>(variables.integer(names.local_world_size, 1));
  check_ranks(e, names, variables.hint());
  e.node_rank = (e.rank - e.local_rank) / e.local_world_size;
  if (e.local_world_size < e.world_size && !variables.has("MASTER_ADDR")) {
    refuse("MASTER_ADDR",
           fmt::format("is not set, and {} of {} ranks are on other nodes",
                       e.world_size - e.local_world_size, e.world_size),
           "name the host of rank 0: mpirun -x MASTER_ADDR=HOST ... (scripts/launch/mpirun.sh)");
  }
  read_master(variables, e);
  return e;
}

// Tasks on this node: from the step's list, else the job's, else from --ntasks-per-node.
std::string_view read_slurm_local_size(const Variables& variables, LaunchEnvironment& e) {
  for (const std::string_view name : {"SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"}) {
    const auto text = variables.find(name);
    if (!text) continue;
    const auto tasks = slurm_tasks_on(*text, e.node_rank);
    if (!tasks) {
      refuse(name, fmt::format("'{}' is not a list such as 8(x4),3", *text), variables.hint());
    }
    if (tasks->total != e.world_size) {
      refuse(name,
             fmt::format("'{}' is {} tasks, SLURM_NTASKS is {}", *text, tasks->total, e.world_size),
             variables.hint());
    }
    if (tasks->on_node == 0) {
      refuse("SLURM_NODEID", fmt::format("{} is no node of {} '{}'", e.node_rank, name, *text),
             variables.hint());
    }
    e.local_world_size = static_cast<int>(tasks->on_node);
    return name;
  }
  constexpr std::string_view kEvenly = "SLURM_NTASKS_PER_NODE";
  e.local_world_size = static_cast<int>(variables.integer(kEvenly, 1));
  if (e.world_size % e.local_world_size != 0) {
    refuse(kEvenly,
           fmt::format("{} does not divide SLURM_NTASKS {}", e.local_world_size, e.world_size),
           variables.hint());
  }
  return kEvenly;
}

std::optional<LaunchEnvironment> read_slurm(const VariableLookup& lookup) {
  const Variables variables(lookup, kSlurmHint);
  // A shell of salloc has no SLURM_PROCID; a batch script has one, but no SLURM_NTASKS where
  // nobody asked for tasks. A task that is alone needs nothing of the others.
  if (!variables.has("SLURM_PROCID") || !variables.has("SLURM_NTASKS")) return std::nullopt;
  LaunchEnvironment e;
  e.world_size = static_cast<int>(variables.integer("SLURM_NTASKS", 1));
  if (e.world_size == 1) return std::nullopt;
  const auto hosts = variables.find("SLURM_STEP_NODELIST");
  if (!hosts) {
    refuse("SLURM_NTASKS",
           fmt::format("{}, but srun did not start this process (no SLURM_STEP_NODELIST)",
                       e.world_size),
           "start it with srun (scripts/launch/srun.sh), or ask for one task");
  }
  e.launcher = Launcher::kSlurm;
  e.rank = static_cast<int>(variables.integer("SLURM_PROCID", 0));
  e.local_rank = static_cast<int>(variables.integer("SLURM_LOCALID", 0));
  e.node_rank = static_cast<int>(variables.integer("SLURM_NODEID", 0));
  const std::string_view local_size = read_slurm_local_size(variables, e);
  check_ranks(e, {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", local_size}, variables.hint());
  e.run_id = variables.text("SLURM_JOB_ID");
  const int64_t job = variables.integer("SLURM_JOB_ID", 0, std::numeric_limits<uint32_t>::max());
  e.master_port = static_cast<int>(kFirstJobPort + job % kNumJobPorts);
  const auto first_host = slurm_first_host(*hosts);
  if (!first_host) {
    refuse("SLURM_STEP_NODELIST",
           fmt::format("'{}' is not a list of hosts such as node[003-006,010],login1", *hosts),
           variables.hint());
  }
  e.master_address = *first_host;
  read_master(variables, e);
  e.restart_count = variables.integer_or("SLURM_RESTART_COUNT", 0, 0);
  return e;
}

// WORLD_SIZE that nobody else confirms: by hand, from a script for another program.
void check_world_size(const VariableLookup& lookup, const LaunchEnvironment& e) {
  const Variables variables(lookup, kTorchrunHint);
  if (!variables.has("WORLD_SIZE") || variables.integer("WORLD_SIZE", 1) == e.world_size) return;
  refuse("WORLD_SIZE",
         fmt::format("{}, but the launcher's own variables tell of {} process{}",
                     variables.text("WORLD_SIZE"), e.world_size, e.world_size == 1 ? "" : "es"),
         "unset WORLD_SIZE, or set RANK with it");
}

}  // namespace

LaunchEnvironment read_launch_environment(const VariableLookup& variable) {
  if (const auto e = read_torchrun(variable)) return *e;
  LaunchEnvironment environment;
  if (const auto mpi = read_open_mpi(variable)) {
    environment = *mpi;
  } else if (const auto slurm = read_slurm(variable)) {
    environment = *slurm;
  }
  check_world_size(variable, environment);
  return environment;
}

LaunchEnvironment read_launch_environment() {
  return read_launch_environment([](std::string_view name) -> std::optional<std::string> {
    const char* value = std::getenv(std::string(name).c_str());
    return value ? std::optional<std::string>(value) : std::nullopt;
  });
}

}  // namespace lorikeet
