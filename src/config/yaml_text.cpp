#include "yaml_text.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>

#include "lorikeet/core/error.h"
#include "problem.h"

namespace lorikeet {
namespace {

constexpr size_t kLargestFile = 1 << 20;

[[noreturn]] void refuse(const std::string& name, size_t line, size_t column,
                         const std::string& what, const std::string& hint) {
  throw Error(ExitCode::kUsage, fmt::format("{}:{}:{}: {}", name, line, column, what), hint);
}

/// Length of the UTF-8 sequence at the start of `text`; 0 if there is none.
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const size_t length = byte(0) >= 0xF0 ? 4 : byte(0) >= 0xE0 ? 3 : 2;
  if (byte(0) < 0xC2 || byte(0) > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and code points above U+10FFFF.
  if (byte(0) == 0xE0 && byte(1) < 0xA0) return 0;
  if (byte(0) == 0xED && byte(1) > 0x9F) return 0;
  if (byte(0) == 0xF0 && byte(1) < 0x90) return 0;
  if (byte(0) == 0xF4 && byte(1) > 0x8F) return 0;
  return length;
}

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte < 0x20 && c != '\t' && c != '\n' && c != '\r') || byte == 0x7F;
}

/// What yaml-cpp would take silently (it stops at byte 4) or explain badly (tabs).
void check_characters(std::string_view text, const std::string& name) {
  size_t line = 1;
  size_t line_start = 0;
  bool is_indentation = true;
  for (size_t i = 0; i < text.size();) {
    const size_t column = i - line_start + 1;
    const size_t length = utf8_length(text.substr(i));
    if (length == 0) {
      refuse(name, line, column, "not UTF-8 text", "save the file as UTF-8");
    }
    if (is_control(text[i])) {
      const auto byte = static_cast<unsigned char>(text[i]);
      refuse(name, line, column, fmt::format("control character 0x{:02x}", byte), "remove it");
    }
    if (text[i] == '\t' && is_indentation) {
      refuse(name, line, column, "a tab as indentation; YAML wants spaces",
             "replace tabs with spaces");
    }
    is_indentation = is_indentation && text[i] == ' ';
    if (text[i] == '\n') {
      ++line;
      line_start = i + 1;
      is_indentation = true;
    }
    i += length;
  }
}

/// Takes every event of a parse and keeps none.
class IgnoreEvents : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

/// Not YAML::LoadAll: at a comma outside brackets that makes empty documents until memory is full.
bool has_second_document(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  IgnoreEvents ignore;
  return parser.HandleNextDocument(ignore) && parser.HandleNextDocument(ignore);
}

}  // namespace

std::string read_config_file(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    throw Error(ExitCode::kUsage, fmt::format("{}: no such configuration file", shown(path)),
                "configs/ has examples; paths are relative to the working directory");
  }
  if (std::filesystem::is_directory(status)) {
    throw Error(ExitCode::kUsage, fmt::format("{}: a directory, not a configuration file", path),
                "name the .yaml file in it");
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(kLargestFile + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (!file && !file.eof()) {
    throw Error(ExitCode::kUsage, fmt::format("{}: cannot be read", path), "check its permissions");
  }
  if (text.size() > kLargestFile) {
    throw Error(ExitCode::kUsage, fmt::format("{}: larger than 1 MiB", path),
                "a run's configuration is a few kilobytes; is this another file?");
  }
  return text;
}

YAML::Node load_yaml(const std::string& text, const std::string& name) {
  check_characters(text, name);
  try {
    if (has_second_document(text)) {
      throw Error(
          ExitCode::kUsage, fmt::format("{}: more than one YAML document, or a stray comma", name),
          "a configuration is one document of `key: value` lines, without `---` in between");
    }
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    // "bad file" is what yaml-cpp says when its limit on nesting is reached.
    const bool too_deep = error.msg == YAML::ErrorMsg::BAD_FILE;
    const std::string what = too_deep ? "nested too deeply" : error.msg;
    refuse(name, static_cast<size_t>(error.mark.line + 1),
           static_cast<size_t>(error.mark.column + 1), "broken YAML: " + shown(what),
           "check indentation, quotes and brackets there");
  }
}

}  // namespace lorikeet
