#pragma once
#include <set>
#include <string>
#include <vector>

#include "lorikeet/analysis/comparison.h"

namespace lorikeet {

/// Cells of a table, headings first; the text and the page show the same.
using Table = std::vector<std::vector<std::string>>;

/// That any of the settings was validated on.
std::set<std::string> domains_of(const Comparison& comparison);

/// A row a setting: losses, differences, what it took.
Table main_table(const Comparison& comparison);
/// A row a setting, a column a domain: the reference's losses, and what the others have over them.
Table domain_table(const Comparison& comparison);
/// What the numbers are, a line each.
std::vector<std::string> legend(const Comparison& comparison);

}  // namespace lorikeet
