#include "lorikeet/data/tokenizer_training.h"

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <cmath>
#include <regex>
#include <unordered_map>

#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/hash.h"

namespace lorikeet {

namespace {

// The trainer drops longer sentences; ours are cut before.
constexpr size_t kMaxSentenceBytes = 4096;

int64_t count_text_bytes(const TokenizerTraining& options) {
  JsonlReader reader(options.inputs, options.jsonl);
  Document document;
  int64_t bytes = 0;
  while (reader.next(document)) {
    bytes += static_cast<int64_t>(document.text.size());
  }
  if (bytes == 0) {
    throw Error(ExitCode::kData, "the input holds no documents",
                "each line is one JSON object with a \"text\"");
  }
  return bytes;
}

// Hands the trainer the lines of the sampled documents.
class LineSentences : public sentencepiece::SentenceIterator {
 public:
  /// @param keep_below  documents whose hash is above are left out
  LineSentences(const TokenizerTraining& options, uint64_t keep_below)
      : reader_(options.inputs, options.jsonl), keep_below_(keep_below) {
    Next();
  }
  bool done() const override { return is_done_; }
  const std::string& value() const override { return sentence_; }
  sentencepiece::util::Status status() const override { return {}; }

  void Next() override {
    do {
      while (rest_.empty()) {
        if (!next_document()) {
          is_done_ = true;
          return;
        }
      }
      take_sentence();
    } while (sentence_.empty());
  }

 private:
  bool next_document() {
    Document document;
    while (reader_.next(document)) {
      if (hash64(document.text) <= keep_below_) {
        rest_ = document.text;
        return true;
      }
    }
    return false;
  }

  // A line, or as much of it as is allowed, cut at a space where there is one.
  void take_sentence() {
    size_t end = std::min(rest_.find('\n'), rest_.size());
    size_t skip = 1;
    if (end > kMaxSentenceBytes) {
      const size_t space = rest_.rfind(' ', kMaxSentenceBytes);
      skip = 0;
      end = space != std::string_view::npos && space > 0 ? space : kMaxSentenceBytes;
      while (end > 1 && (static_cast<unsigned char>(rest_[end]) & 0xC0) == 0x80) {
        --end;  // not inside a character
      }
    }
    sentence_ = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + skip, rest_.size()));
  }

  JsonlReader reader_;
  uint64_t keep_below_;
  std::string_view rest_;  // of the document; the reader holds it
  std::string sentence_;
  bool is_done_ = false;
};

// The number of threads is fixed, since SentencePiece writes it into the model.
std::unordered_map<std::string, std::string> trainer_arguments(const TokenizerTraining& options) {
  return {{"model_type", "bpe"},
          {"vocab_size", std::to_string(options.vocab_size)},
          {"byte_fallback", "true"},
          {"split_digits", "true"},
          {"allow_whitespace_only_pieces", "true"},
          {"normalization_rule_name", "identity"},
          {"remove_extra_whitespaces", "false"},
          {"add_dummy_prefix", "true"},
          {"character_coverage", "0.9999"},
          {"max_sentence_length", std::to_string(2 * kMaxSentenceBytes)},
          {"input_sentence_size", "0"},
          {"shuffle_input_sentence", "false"},
          {"num_threads", "4"},
          {"unk_id", "0"},
          {"bos_id", "1"},
          {"eos_id", "2"},
          {"pad_id", "-1"},
          {"minloglevel", "2"}};
}

/// SentencePiece's message names its source file and condition: of it only the number is told.
std::string size_problem(const std::string& message) {
  std::smatch found;
  if (std::regex_search(message, found, std::regex(R"(\d+ vs (\d+)\.)"))) {
    return fmt::format("is less than {}, the text's characters and the special pieces",
                       found[1].str());
  }
  if (std::regex_search(message, found, std::regex(R"(value <= (\d+))"))) {
    return fmt::format("is more than {}, what the text offers", found[1].str());
  }
  return "is not possible with this text";
}

}  // namespace

void train_tokenizer(const TokenizerTraining& options) {
  // <unk>, <s>, </s>, 256 bytes, the space and at least one piece to learn.
  constexpr int64_t kSmallest = 3 + 256 + 2;
  if (options.vocab_size < kSmallest) {
    throw Error(ExitCode::kUsage,
                fmt::format("--vocab-size: {} is less than {}", options.vocab_size, kSmallest),
                "256 pieces are bytes and 3 are special; 8000 to 64000 are usual");
  }
  constexpr int64_t kLargest = 1 << 24;  // model.vocab_size's limit
  if (options.vocab_size > kLargest) {
    throw Error(ExitCode::kUsage,
                fmt::format("--vocab-size: {} is more than {}", options.vocab_size, kLargest),
                "8000 to 64000 are usual");
  }
  const int64_t bytes = count_text_bytes(options);
  uint64_t keep_below = UINT64_MAX;
  if (options.sample_bytes > 0 && options.sample_bytes < bytes) {
    const double share = static_cast<double>(options.sample_bytes) / static_cast<double>(bytes);
    keep_below = static_cast<uint64_t>(std::ldexp(share, 64));
  }
  LineSentences sentences(options, keep_below);
  std::string model;
  const auto status =
      sentencepiece::SentencePieceTrainer::Train(trainer_arguments(options), &sentences, &model);
  if (!status.ok()) {
    throw Error(ExitCode::kUsage,
                fmt::format("--vocab-size: {} {}", options.vocab_size,
                            size_problem(status.error_message())),
                "choose another size, or give more text");
  }
  write_file_atomically(options.output, model, ExitCode::kData);
}

}  // namespace lorikeet
