#include "bpe_encoder.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <queue>

#include "lorikeet/core/error.h"
#include "lorikeet/data/permutation.h"

namespace lorikeet {

namespace {

using PieceType = SentencePieceModel::PieceType;
constexpr std::string_view kSpace = "\xe2\x96\x81";  // U+2581, SentencePiece's visible space
constexpr uint64_t kNeighbourBits = 1 << 20;

// Bytes of the character that starts at text[0]; at least 1, never beyond the end.
size_t character_bytes(std::string_view text) {
  const unsigned char lead = static_cast<unsigned char>(text[0]);
  const size_t bytes = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  return std::min(bytes, text.size());
}

// The bytes of a character as one number: a name for it, not its code point.
char32_t character_name(std::string_view character) {
  char32_t name = 0;
  for (const char byte : character) {
    name = name << 8 | static_cast<unsigned char>(byte);
  }
  return name;
}

uint64_t neighbour_slot(char32_t left, char32_t right) {
  return mix64(static_cast<uint64_t>(left) << 32 | right) % kNeighbourBits;
}

// Stretches met before and their ids: a direct-mapped table, one a thread.
class StretchCache {
 public:
  static constexpr size_t kMaxBytes = 24;
  static constexpr size_t kMaxIds = 8;
  struct Entry {
    uint8_t num_bytes = 0;  // 0: empty
    uint8_t num_ids = 0;
    char text[kMaxBytes];
    int32_t ids[kMaxIds];
  };

  Entry& slot(std::string_view stretch, uint64_t owner) {
    if (owner_ != owner) {
      entries_.assign(kEntries, {});
      owner_ = owner;
    }
    return entries_[hash64(stretch) % kEntries];
  }

 private:
  static constexpr size_t kEntries = 1 << 16;
  uint64_t owner_ = 0;
  std::vector<Entry> entries_;
};

// A stretch while it is merged: a linked list of symbols, each a part of the text.
struct Symbol {
  std::string_view text;
  int previous;
  int next;
};

struct Candidate {
  float score;
  int left;
  int right;
  size_t bytes;
  bool operator<(const Candidate& other) const {  // the top of the queue is the largest
    return score < other.score || (score == other.score && left > other.left);
  }
};

}  // namespace

bool BpeEncoder::supports(const SentencePieceModel& model) {
  if (!model.is_bpe || !model.byte_fallback || model.whitespace_as_suffix || model.has_rules ||
      model.remove_extra_whitespaces || !model.escape_whitespaces) {
    return false;
  }
  int num_bytes = 0;
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    const bool is_known = piece.type == PieceType::kNormal || piece.type == PieceType::kByte ||
                          piece.type == PieceType::kControl || piece.type == PieceType::kUnknown;
    // A reserved piece of one character would be found in a text.
    const bool is_plain = piece.type == PieceType::kNormal || piece.text.size() > 4;
    if (!is_known || (!is_plain && piece.text.size() <= character_bytes(piece.text + " "))) {
      return false;
    }
    num_bytes += piece.type == PieceType::kByte ? 1 : 0;
  }
  return num_bytes == 256;
}

BpeEncoder::BpeEncoder(SentencePieceModel model) : model_(std::move(model)) {
  static std::atomic<uint64_t> num_encoders = 0;
  identity_ = ++num_encoders;
  neighbours_.resize(kNeighbourBits);
  pieces_.reserve(model_.pieces.size());
  for (size_t id = 0; id < model_.pieces.size(); ++id) {
    const SentencePieceModel::Piece& piece = model_.pieces[id];
    if (piece.type == PieceType::kByte) {  // "<0x0A>"
      byte_ids_[std::stoul(piece.text.substr(1, 4), nullptr, 16) & 255] = static_cast<int32_t>(id);
    } else if (piece.type == PieceType::kNormal) {
      pieces_.emplace(piece.text, static_cast<int32_t>(id));
      longest_piece_ = std::max(longest_piece_, piece.text.size());
      add_neighbours(piece.text);
    }
  }
}

void BpeEncoder::add_neighbours(std::string_view piece) {
  char32_t left = 0;
  bool has_left = false;
  while (!piece.empty()) {
    const size_t bytes = character_bytes(piece);
    const char32_t right = character_name(piece.substr(0, bytes));
    if (has_left) {
      neighbours_[neighbour_slot(left, right)] = true;
    }
    left = right;
    has_left = true;
    piece.remove_prefix(bytes);
  }
}

bool BpeEncoder::may_join(char32_t left, char32_t right) const {
  return neighbours_[neighbour_slot(left, right)];
}

std::vector<int32_t> BpeEncoder::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  if (text.empty()) {
    return ids;
  }
  ids.reserve(text.size() / 3 + 8);
  std::string escaped;
  escaped.reserve(text.size() + text.size() / 2);
  if (model_.add_dummy_prefix) {
    escaped = kSpace;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ' ') {
      escaped += kSpace;
    } else if (text[i] == kSpace[0] && text.substr(i, kSpace.size()) == kSpace) {
      encode_escaped(escaped, ids);
      escaped.clear();
      for (const char byte : kSpace) {
        ids.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
      }
      i += kSpace.size() - 1;
    } else {
      escaped += text[i];
    }
  }
  encode_escaped(escaped, ids);
  return ids;
}

void BpeEncoder::encode_escaped(std::string_view text, std::vector<int32_t>& ids) const {
  size_t begin = 0;
  char32_t left = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t bytes = character_bytes(text.substr(i));
    const char32_t right = character_name(text.substr(i, bytes));
    if (i > begin && !may_join(left, right)) {
      encode_stretch(text.substr(begin, i - begin), ids);
      begin = i;
    }
    left = right;
    i += bytes;
  }
  if (begin < text.size()) {
    encode_stretch(text.substr(begin), ids);
  }
}

void BpeEncoder::encode_stretch(std::string_view stretch, std::vector<int32_t>& ids) const {
  if (stretch.size() > StretchCache::kMaxBytes) {
    merge_stretch(stretch, ids);
    return;
  }
  thread_local StretchCache cache;
  StretchCache::Entry& entry = cache.slot(stretch, identity_);
  if (std::string_view(entry.text, entry.num_bytes) == stretch) {
    ids.insert(ids.end(), entry.ids, entry.ids + entry.num_ids);
    return;
  }
  const size_t before = ids.size();
  merge_stretch(stretch, ids);
  const size_t num_ids = ids.size() - before;
  if (num_ids <= StretchCache::kMaxIds) {
    entry.num_bytes = static_cast<uint8_t>(stretch.size());
    entry.num_ids = static_cast<uint8_t>(num_ids);
    std::memcpy(entry.text, stretch.data(), stretch.size());
    std::copy(ids.end() - static_cast<std::ptrdiff_t>(num_ids), ids.end(), entry.ids);
  }
}

void BpeEncoder::merge_stretch(std::string_view stretch, std::vector<int32_t>& ids) const {
  std::vector<Symbol> symbols;
  for (size_t i = 0; i < stretch.size();) {
    const size_t bytes = character_bytes(stretch.substr(i));
    const int index = static_cast<int>(symbols.size());
    symbols.push_back({stretch.substr(i, bytes), index - 1, index + 1});
    i += bytes;
  }
  symbols.back().next = -1;

  std::priority_queue<Candidate> candidates;
  const auto consider = [&](int left, int right) {
    if (left < 0 || right < 0) {
      return;
    }
    const size_t bytes = symbols[left].text.size() + symbols[right].text.size();
    if (bytes > longest_piece_) {
      return;
    }
    const auto found = pieces_.find({symbols[left].text.data(), bytes});
    if (found != pieces_.end()) {
      candidates.push({model_.pieces[found->second].score, left, right, bytes});
    }
  };
  for (int i = 1; i < static_cast<int>(symbols.size()); ++i) {
    consider(i - 1, i);
  }
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = symbols[best.left];
    Symbol& right = symbols[best.right];
    if (left.text.empty() || right.text.empty() ||
        left.text.size() + right.text.size() != best.bytes) {
      continue;  // one of the two was merged with something else meanwhile
    }
    left.text = {left.text.data(), best.bytes};
    right.text = {};
    left.next = right.next;
    if (left.next >= 0) {
      symbols[left.next].previous = best.left;
    }
    consider(left.previous, best.left);
    consider(best.left, left.next);
  }
  for (int i = 0; i >= 0; i = symbols[i].next) {
    append_piece(symbols[i].text, ids);
  }
}

void BpeEncoder::append_piece(std::string_view piece, std::vector<int32_t>& ids) const {
  if (const auto found = pieces_.find(piece); found != pieces_.end()) {
    ids.push_back(found->second);
    return;
  }
  for (const char byte : piece) {
    ids.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
  }
}

}  // namespace lorikeet
