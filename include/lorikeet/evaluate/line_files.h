#pragma once
#include <fstream>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>

#include "lorikeet/core/file.h"

namespace lorikeet {

/// A file read and a file written line by line; the name "-" is standard input or output. Both are
/// opened at once, so that a wrong path shows before anything slow begins.
class LineFiles {
 public:
  /// @throws Error(kData): the input cannot be opened, the output not be written; Error(kUsage):
  /// one file is both
  LineFiles(const std::string& input, const std::string& output);

  /// The next line without its end. @return false at the end of the input
  bool read(std::string& line);
  /// "FILE:3" of the line read last, "<stdin>:3" of standard input.
  std::string position() const;

  /// A file gets its name at commit(); standard output gets the text now.
  void write(std::string_view text);
  void commit();

 private:
  std::string input_name_;
  std::ifstream input_file_;
  std::istream* input_;
  std::optional<AtomicFile> output_file_;  // none: standard output
  int64_t line_ = 0;
};

}  // namespace lorikeet
