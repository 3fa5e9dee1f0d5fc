#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace lorikeet {

/// Edits (insert, delete, replace, swap of two neighbours) that turn `a` into `b`; optimal string
/// alignment.
int edit_distance(std::string_view a, std::string_view b);

/// What the user probably meant by `word`: the candidate fewest edits away, at most a third of the
/// longer one's length, or else the only candidate that starts with `word`. Letter case, `-` and
/// `_` make no difference. The earlier candidate wins a tie. "" if nothing is near.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace lorikeet
