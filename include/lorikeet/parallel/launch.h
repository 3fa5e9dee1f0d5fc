#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace lorikeet {

/// Who this process is among the processes of a run, and where they meet: what torchrun, Slurm or
/// Open MPI left in the environment.
struct LaunchEnvironment {
  enum class Launcher { kNone, kTorchrun, kSlurm, kOpenMpi };

  Launcher launcher = Launcher::kNone;
  int rank = 0;              ///< in [0, world_size)
  int world_size = 1;        ///< processes of the run
  int local_rank = 0;        ///< in [0, local_world_size); which GPU of the node is this process's
  int local_world_size = 1;  ///< processes on this node
  /// Which node this is, from 0. Open MPI doesn't say: there it is right where nodes have equally
  /// many ranks and are filled one after another, as mpirun does by default.
  int node_rank = 0;
  std::string master_address = "127.0.0.1";  ///< of the host of rank 0, or of torchrun's agent
  int master_port = 29500;                   ///< where the ranks meet there
  int restart_count = 0;           ///< how often the launcher has started these ranks again
  bool agent_hosts_store = false;  ///< torchrun's agent listens there; else rank 0 is to
  std::string run_id;              ///< torchrun's --rdzv-id, Slurm's job; else empty
};

/// The value of an environment variable, none where it is not set. An empty value counts as none.
using VariableLookup = std::function<std::optional<std::string>(std::string_view name)>;

/// Recognises the innermost launcher: torchrun (RANK or TORCHELASTIC_RUN_ID), Open MPI
/// (OMPI_COMM_WORLD_RANK), srun (SLURM_PROCID). Without any, in a shell of salloc or
/// `srun --pty`, in a job of one task: one process.
///
/// MASTER_ADDR and MASTER_PORT count under every launcher. Without them Slurm's ranks meet at the
/// first host of the step, at a port made of the job's number, and Open MPI's on 127.0.0.1:29500,
/// which does for one node.
/// @throws Error(kUsage) naming the first variable that is missing, broken or contradicts another
LaunchEnvironment read_launch_environment(const VariableLookup& variable);
/// From this process's environment.
LaunchEnvironment read_launch_environment();

}  // namespace lorikeet
