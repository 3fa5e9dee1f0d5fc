#pragma once
#include <cstdint>
#include <vector>

#include "lorikeet/similarity/neighbours.h"

namespace lorikeet {

/// Rows that one move of two_opt_pass turns round, at most: a pass stays near linear.
inline constexpr size_t kLongestTurn = 10'000;

/// One pass of 2-opt over a path: where two of its steps, a to b and c to d, weigh less than a to c
/// and b to d, the rows b .. c are turned round. Only c that are nearer to a than b is are tried,
/// and the two ends of the path are free.
/// @return whether anything was turned
bool two_opt_pass(const NeighbourGraph& graph, std::vector<uint32_t>& rows);

}  // namespace lorikeet
