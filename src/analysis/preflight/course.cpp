#include "course.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

namespace lorikeet {

Course read_course(const std::string& path) {
  Course course;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line) && !file.eof();) {  // a half line is left out
    const auto row = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!row.is_object() || !row.contains("loss")) continue;
    const int64_t step = row.at("step");
    const auto number = [&](const char* key) {
      return row.at(key).is_number() ? row.at(key).get<double>() : std::nan("");
    };
    course.losses[step] = number("loss");
    course.tokens_per_second[step] = number("tokens_per_second");
    if (course.losses.size() == 1) course.peak_memory = row.at("peak_memory_bytes");
  }
  return course;
}

Comparison compare_courses(const Course& first, const Course& again, int64_t after) {
  Comparison comparison;
  for (auto step = first.losses.upper_bound(after); step != first.losses.end(); ++step) {
    const auto other = again.losses.find(step->first);
    if (other == again.losses.end()) {
      comparison.failure = fmt::format("step {} was not taken again", step->first);
      return comparison;
    }
    const double difference = std::abs(step->second - other->second);
    if (std::isnan(difference)) {
      comparison.failure = fmt::format("the loss of step {} is not a number", step->first);
      return comparison;
    }
    comparison.largest_difference = std::max(comparison.largest_difference, difference);
  }
  return comparison;
}

double median_rate(const Course& course) {
  std::vector<double> rates;
  for (const auto& [step, rate] : course.tokens_per_second) {
    if (std::isfinite(rate)) rates.push_back(rate);
  }
  if (rates.empty()) return 0;
  const auto middle = rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2);
  std::nth_element(rates.begin(), middle, rates.end());
  return *middle;
}

}  // namespace lorikeet
