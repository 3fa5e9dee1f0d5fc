#include "lorikeet/evaluate/line_files.h"

#include <fmt/format.h>

#include <cerrno>
#include <filesystem>
#include <iostream>
#include <system_error>

#include "lorikeet/core/error.h"

namespace lorikeet {

namespace {

constexpr const char* kStandard = "-";

void open_input(const std::string& path, std::ifstream& file) {
  std::error_code ignored;
  // A folder opens without complaint, and fails when it is read.
  if (std::filesystem::is_directory(path, ignored)) {
    throw Error(ExitCode::kData, fmt::format("{}: is a folder, a file is needed", path),
                "give a file of JSON lines, or - for standard input");
  }
  errno = 0;
  file.open(path);
  if (!file) {
    throw Error(
        ExitCode::kData,
        fmt::format("{}: cannot be opened: {}", path, std::generic_category().message(errno)),
        "check the path and the permissions, or give - for standard input");
  }
}

}  // namespace

LineFiles::LineFiles(const std::string& input, const std::string& output)
    : input_name_(input == kStandard ? "<stdin>" : input), input_(&std::cin) {
  if (input != kStandard) {
    open_input(input, input_file_);
    input_ = &input_file_;
  }
  if (output == kStandard) return;
  std::error_code no_output_yet;
  if (input != kStandard && std::filesystem::equivalent(input, output, no_output_yet)) {
    throw Error(ExitCode::kUsage, fmt::format("{}: is the input and the output", output),
                "give --output another name");
  }
  output_file_.emplace(output, ExitCode::kData);
}

bool LineFiles::read(std::string& line) {
  if (std::getline(*input_, line)) {
    ++line_;
    return true;
  }
  if (input_->bad()) {
    throw Error(ExitCode::kData,
                fmt::format("{}: could not be read after line {}", input_name_, line_),
                "check the disk or the program that the input comes from");
  }
  return false;
}

std::string LineFiles::position() const { return fmt::format("{}:{}", input_name_, line_); }

void LineFiles::write(std::string_view text) {
  if (output_file_) {
    output_file_->write(text);
    return;
  }
  // Flushed, so that a program at the other end of a pipe need not wait for the rest.
  if (!(std::cout << text << std::flush)) {
    throw Error(ExitCode::kData, "<stdout>: could not be written",
                "check the disk or the program that the output goes to");
  }
}

void LineFiles::commit() {
  if (output_file_) output_file_->commit();
}

}  // namespace lorikeet
