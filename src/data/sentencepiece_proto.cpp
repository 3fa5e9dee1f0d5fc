#include "sentencepiece_proto.h"

#include <cstring>
#include <functional>
#include <stdexcept>

namespace lorikeet {

namespace {

// One field of a protocol buffer: a number, or bytes.
struct Field {
  uint64_t number = 0;
  uint64_t value = 0;
  std::string_view bytes;
};

uint64_t take_varint(std::string_view& in) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (in.empty()) {
      throw std::invalid_argument("ends inside a number");
    }
    const uint64_t byte = static_cast<unsigned char>(in.front());
    in.remove_prefix(1);
    value |= (byte & 127) << shift;
    if (byte < 128) {
      return value;
    }
  }
  throw std::invalid_argument("has a number of more than 64 bits");
}

std::string_view take_bytes(std::string_view& in, uint64_t size) {
  if (size > in.size()) {
    throw std::invalid_argument("ends inside a field");
  }
  const std::string_view bytes = in.substr(0, size);
  in.remove_prefix(size);
  return bytes;
}

void for_each_field(std::string_view in, const std::function<void(const Field&)>& visit) {
  while (!in.empty()) {
    const uint64_t tag = take_varint(in);
    Field field{.number = tag >> 3, .value = 0, .bytes = {}};
    switch (tag & 7) {
      case 0:
        field.value = take_varint(in);
        break;
      case 1:
        field.bytes = take_bytes(in, 8);
        break;
      case 2:
        field.bytes = take_bytes(in, take_varint(in));
        break;
      case 5:
        field.bytes = take_bytes(in, 4);
        break;
      default:
        throw std::invalid_argument("has a field of unknown kind");
    }
    visit(field);
  }
}

SentencePieceModel::Piece parse_piece(std::string_view bytes) {
  SentencePieceModel::Piece piece;
  for_each_field(bytes, [&](const Field& field) {
    if (field.number == 1) {
      piece.text = field.bytes;
    } else if (field.number == 2 && field.bytes.size() == sizeof piece.score) {
      std::memcpy(&piece.score, field.bytes.data(), sizeof piece.score);
    } else if (field.number == 3) {
      piece.type = static_cast<SentencePieceModel::PieceType>(field.value);
    }
  });
  return piece;
}

void parse_trainer_spec(std::string_view bytes, SentencePieceModel& model) {
  for_each_field(bytes, [&](const Field& field) {
    if (field.number == 3) {
      model.is_bpe = field.value == 2;
    } else if (field.number == 24) {
      model.whitespace_as_suffix = field.value != 0;
    } else if (field.number == 35) {
      model.byte_fallback = field.value != 0;
    }
  });
}

void parse_normalizer_spec(std::string_view bytes, SentencePieceModel& model) {
  for_each_field(bytes, [&](const Field& field) {
    if (field.number == 2 || field.number == 6) {  // compiled rules, rules as a table
      model.has_rules = model.has_rules || !field.bytes.empty();
    } else if (field.number == 3) {
      model.add_dummy_prefix = field.value != 0;
    } else if (field.number == 4) {
      model.remove_extra_whitespaces = field.value != 0;
    } else if (field.number == 5) {
      model.escape_whitespaces = field.value != 0;
    }
  });
}

}  // namespace

SentencePieceModel parse_sentencepiece_model(std::string_view bytes) {
  SentencePieceModel model;
  for_each_field(bytes, [&](const Field& field) {
    if (field.number == 1) {
      model.pieces.push_back(parse_piece(field.bytes));
    } else if (field.number == 2) {
      parse_trainer_spec(field.bytes, model);
    } else if (field.number == 3) {
      parse_normalizer_spec(field.bytes, model);
    }
  });
  return model;
}

}  // namespace lorikeet
