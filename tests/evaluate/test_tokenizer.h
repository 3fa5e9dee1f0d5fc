// A small tokenizer for the room's tests, trained once a process.
#pragma once
#include <fstream>
#include <string>

#include "lorikeet/data/tokenizer.h"
#include "lorikeet/data/tokenizer_training.h"
#include "tests/core/temporary_folder.h"

namespace lorikeet::testing {

/// Path of a SentencePiece model of 300 pieces.
inline const std::string& tiny_tokenizer() {
  static const TemporaryFolder folder;
  static const std::string path = [] {
    std::ofstream lines(folder / "text.jsonl");
    for (int i = 0; i < 50; ++i) {
      lines << R"({"text": "the parrot sees the sea and the lorikeet sings at number )" << i
            << "\"}\n";
    }
    lines.close();
    const std::string model = folder / "tiny.model";
    train_tokenizer({.inputs = {folder / "text.jsonl"}, .output = model, .vocab_size = 300});
    return model;
  }();
  return path;
}

}  // namespace lorikeet::testing
