#include "lorikeet/similarity/words.h"

#include "lorikeet/data/permutation.h"

namespace lorikeet {

namespace {

constexpr uint64_t kFnvBasis = 0xcbf29ce484222325ULL;
constexpr uint64_t kFnvPrime = 0x100000001b3ULL;

bool is_word_byte(unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c >= 0x80;
}

// "<0x0A>" stands for one byte of the text.
bool is_byte_piece(const std::string& piece) {
  return piece.size() == 6 && piece.starts_with("<0x") && piece.back() == '>';
}

// Leading byte of a character in U+3000 .. U+DFFF: CJK, kana, Hangul.
bool begins_ideograph(unsigned char c) { return c >= 0xe3 && c <= 0xed; }

// U+2000 .. U+206F (quotes, dashes, spaces) and U+2581, SentencePiece's space.
bool is_general_punctuation(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  if (at + 2 >= text.size() || byte(0) != 0xe2) {
    return false;
  }
  return byte(1) == 0x80 || byte(1) == 0x81 || (byte(1) == 0x96 && byte(2) == 0x81);
}

std::string normalised(const std::string& piece) {
  std::string text;
  for (size_t at = 0; at < piece.size();) {
    const auto c = static_cast<unsigned char>(piece[at]);
    if (is_general_punctuation(piece, at)) {
      text += ' ';
      at += 3;
    } else if (begins_ideograph(c) && at + 2 < piece.size()) {
      text += ' ' + piece.substr(at, 3) + ' ';
      at += 3;
    } else {
      const auto lower = static_cast<unsigned char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
      text += is_word_byte(lower) ? static_cast<char>(lower) : ' ';
      ++at;
    }
  }
  return text;
}

}  // namespace

WordSplitter::WordSplitter(const Tokenizer& tokenizer) {
  pieces_.reserve(static_cast<size_t>(tokenizer.vocab_size()));
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string& piece = tokenizer.piece(id);
    is_byte_.push_back(is_byte_piece(piece));
    if (id == tokenizer.bos() || id == tokenizer.eos() || id == tokenizer.unknown()) {
      pieces_.emplace_back(" ");
    } else if (is_byte_.back()) {
      pieces_.emplace_back(1, static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16)));
    } else {
      pieces_.push_back(normalised(piece));
    }
  }
}

void WordSplitter::split(std::span<const int32_t> ids, std::vector<uint32_t>& words) const {
  words.clear();
  uint64_t hash = kFnvBasis;
  const auto end_word = [&] {
    if (hash != kFnvBasis) {
      words.push_back(static_cast<uint32_t>(mix64(hash)));
      hash = kFnvBasis;
    }
  };
  const auto read = [&](const std::string& text) {
    for (const char c : text) {
      if (c == ' ') {
        end_word();
      } else {
        hash = (hash ^ static_cast<unsigned char>(c)) * kFnvPrime;
      }
    }
  };
  std::string bytes;  // of a character that has no piece, one id a byte
  for (const int32_t id : ids) {
    if (is_byte_[static_cast<size_t>(id)]) {
      bytes += pieces_[static_cast<size_t>(id)];
      continue;
    }
    if (!bytes.empty()) {
      read(normalised(bytes));
      bytes.clear();
    }
    read(pieces_[static_cast<size_t>(id)]);
  }
  read(normalised(bytes));
  end_word();
}

}  // namespace lorikeet
