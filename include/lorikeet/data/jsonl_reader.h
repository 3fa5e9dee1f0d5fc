#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "lorikeet/data/line_reader.h"

namespace lorikeet {

struct JsonlOptions {
  std::string text_key = "text";
  std::string domain_key = "domain";
  bool skip_bad = false;  ///< count bad lines and go on, instead of stopping at the first
};

/// Views are valid until the next document is read.
struct Document {
  std::string_view text;
  std::string_view domain;
};

/// Why a line is not a document.
class BadLine : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The error that names where a bad line stands.
[[noreturn]] void refuse_line(const std::string& path, int64_t line, const std::string& reason);

/// "data/web.jsonl.gz" -> "web": the domain of documents that name none.
std::string file_stem(const std::string& path);

/// Reads one line as a document. Not thread-safe: one a thread.
class DocumentParser {
 public:
  explicit DocumentParser(const JsonlOptions& options);
  ~DocumentParser();

  /// @param default_domain  taken where the line names none
  /// @throws BadLine for what is not JSON in UTF-8, or has no text
  Document parse(std::string_view line, std::string_view default_domain);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The documents of several JSONL files in order. Blank lines are passed over.
class JsonlReader {
 public:
  JsonlReader(std::vector<std::string> paths, const JsonlOptions& options);

  /// @return false at the end
  /// @throws Error(kData) with file and line
  bool next(Document& document);
  int64_t skipped() const { return skipped_; }

 private:
  std::vector<std::string> paths_;
  JsonlOptions options_;
  DocumentParser parser_;
  size_t next_path_ = 0;
  std::optional<LineReader> lines_;
  std::string default_domain_;
  int64_t skipped_ = 0;
};

}  // namespace lorikeet
