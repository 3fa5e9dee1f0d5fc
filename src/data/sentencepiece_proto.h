#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lorikeet {

/// What the BPE encoder needs of a SentencePiece model file (sentencepiece_model.proto).
struct SentencePieceModel {
  enum class PieceType { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };
  struct Piece {
    std::string text;
    float score = 0;
    PieceType type = PieceType::kNormal;
  };
  std::vector<Piece> pieces;
  bool is_bpe = false;
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;
  bool has_rules = false;  ///< normalisation rules: not the identity
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

/// @throws std::invalid_argument where the bytes are not a protocol buffer
SentencePieceModel parse_sentencepiece_model(std::string_view bytes);

}  // namespace lorikeet
