#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lorikeet {

struct SlurmTasks {
  int64_t total = 0;    ///< of all nodes
  int64_t on_node = 0;  ///< of the node asked for; 0 where there is no such node
};

/// Reads SLURM_TASKS_PER_NODE: "8(x4),3" is four nodes of 8 tasks, then one of 3. None where it is
/// no such list.
std::optional<SlurmTasks> slurm_tasks_on(std::string_view list, int64_t node);

/// The first host of SLURM_STEP_NODELIST: "node003" of "node[003-006,010],login1". None where it is
/// no such list.
std::optional<std::string> slurm_first_host(std::string_view list);

}  // namespace lorikeet
