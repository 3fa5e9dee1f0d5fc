#pragma once
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "lorikeet/config/quantity.h"

namespace lorikeet {

// What a single field may hold. Rules between fields are in model_rules.cpp and run_rules.cpp.

/// Whatever the type allows.
struct Any {};

struct Whole {
  int64_t min = 0;
  int64_t max = std::numeric_limits<int64_t>::max();
  const char* zero_word = nullptr;  ///< how 0 is written: "auto"
};

struct Real {
  double min = 0;
  double max = std::numeric_limits<double>::max();
  bool min_allowed = true;
  bool max_allowed = true;
  const char* zero_word = nullptr;
};

/// A list of so many numbers.
struct Numbers {
  size_t length;
  Real each;
};

struct Text {
  std::vector<std::string> choices = {};  ///< empty: free text
  const char* what = "";                  ///< free text, for the reference: "a folder"
  bool may_be_empty = true;
  bool is_file_name = false;  ///< one component of a path
};

struct Units {
  std::vector<Period::Unit> allowed;
};

}  // namespace lorikeet
