#include "lorikeet/data/jsonl_reader.h"

#include <simdjson.h>

#include <filesystem>

#include "lorikeet/core/error.h"

namespace lorikeet {

namespace {

constexpr size_t kMaxDomainBytes = 255;

std::string_view text_of(const simdjson::dom::object& object, const std::string& key) {
  simdjson::dom::element element;
  if (object.at_key(key).get(element) != simdjson::SUCCESS) {
    throw BadLine(fmt::format("has no \"{}\"", key));
  }
  std::string_view text;
  if (element.get(text) != simdjson::SUCCESS) {
    throw BadLine(fmt::format("\"{}\" is not a string", key));
  }
  if (text.empty()) {
    throw BadLine(fmt::format("\"{}\" is empty", key));
  }
  return text;
}

std::string_view domain_of(const simdjson::dom::object& object, const std::string& key,
                           std::string_view default_domain) {
  simdjson::dom::element element;
  if (object.at_key(key).get(element) != simdjson::SUCCESS || element.is_null()) {
    return default_domain;
  }
  std::string_view domain;
  if (element.get(domain) != simdjson::SUCCESS) {
    throw BadLine(fmt::format("\"{}\" is not a string", key));
  }
  if (domain.empty() || domain.size() > kMaxDomainBytes) {
    throw BadLine(fmt::format("\"{}\" has {} bytes; 1 to {} are allowed", key, domain.size(),
                              kMaxDomainBytes));
  }
  return domain;
}

}  // namespace

struct DocumentParser::State {
  JsonlOptions options;
  simdjson::dom::parser parser;
};

void refuse_line(const std::string& path, int64_t line, const std::string& reason) {
  throw Error(
      ExitCode::kData, fmt::format("{}:{}: {}", path, line, reason),
      "each line is one JSON object with a \"text\"; --skip-bad counts and skips bad lines");
}

std::string file_stem(const std::string& path) {
  std::filesystem::path name = std::filesystem::path(path).filename();
  for (const char* ending : {".gz", ".zst", ".jsonl", ".json", ".ndjson"}) {
    if (name.extension() == ending) {
      name = name.stem();
    }
  }
  return name.string();
}

DocumentParser::DocumentParser(const JsonlOptions& options) : state_(std::make_unique<State>()) {
  state_->options = options;
}
DocumentParser::~DocumentParser() = default;

Document DocumentParser::parse(std::string_view line, std::string_view default_domain) {
  simdjson::dom::element root;
  if (const auto error = state_->parser.parse(line.data(), line.size()).get(root)) {
    throw BadLine(fmt::format("is not JSON in UTF-8: {}", simdjson::error_message(error)));
  }
  simdjson::dom::object object;
  if (root.get(object) != simdjson::SUCCESS) {
    throw BadLine("is JSON, but not an object");
  }
  const JsonlOptions& options = state_->options;
  return {.text = text_of(object, options.text_key),
          .domain = domain_of(object, options.domain_key, default_domain)};
}

JsonlReader::JsonlReader(std::vector<std::string> paths, const JsonlOptions& options)
    : paths_(std::move(paths)), options_(options), parser_(options) {}

bool JsonlReader::next(Document& document) {
  std::string_view line;
  while (true) {
    if (!lines_) {
      if (next_path_ == paths_.size()) {
        return false;
      }
      lines_.emplace(paths_[next_path_]);
      default_domain_ = file_stem(paths_[next_path_]);
      ++next_path_;
    }
    if (!lines_->next(line)) {
      lines_.reset();
      continue;
    }
    if (line.empty()) {
      continue;
    }
    try {
      document = parser_.parse(line, default_domain_);
      return true;
    } catch (const BadLine& bad) {
      if (!options_.skip_bad) {
        refuse_line(lines_->path(), lines_->line_number(), bad.what());
      }
      ++skipped_;
    }
  }
}

}  // namespace lorikeet
