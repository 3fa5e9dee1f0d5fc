#pragma once
#include <cstdint>
#include <map>
#include <string>

namespace lorikeet {

/// The steps that a run has logged.
struct Course {
  std::map<int64_t, double> losses;             ///< not a number where none was written
  std::map<int64_t, double> tokens_per_second;  ///< the same
  int64_t peak_memory = 0;                      ///< bytes, with the first of them
  int64_t last() const { return losses.empty() ? 0 : losses.rbegin()->first; }
};

/// From a metrics.jsonl that may still be written: a half line at its end is left out; empty where
/// there is no file. @throws std::exception for rows that are no steps' numbers
Course read_course(const std::string& path);

/// What two runs of one configuration made of the same steps.
struct Comparison {
  std::string failure = {};       ///< empty, or which step cannot be compared
  double largest_difference = 0;  ///< of the losses
};
/// @param after  steps later than this one are compared, up to the last that `first` has
Comparison compare_courses(const Course& first, const Course& again, int64_t after);

/// Tokens a second of the median step; 0 where none has any.
double median_rate(const Course& course);

}  // namespace lorikeet
