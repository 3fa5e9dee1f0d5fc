#include "lorikeet/similarity/wordpiece.h"

#include <utf8proc.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "lorikeet/core/file.h"
#include "lorikeet/core/json_problem.h"

namespace lorikeet {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr size_t kLongestWord = 100;  // characters; a longer word is [UNK]
constexpr uint64_t kLargestId = std::numeric_limits<int32_t>::max() - 1;

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(ExitCode::kCheckpoint, fmt::format("{}: {}", path, what),
              "fetch the model directory again; it must be of BERT's family");
}

std::optional<Json> read_json(const std::string& path) {
  if (!fs::exists(path)) {
    return std::nullopt;
  }
  try {
    Json json = Json::parse(read_text_file(path, ExitCode::kCheckpoint));
    if (json.is_object()) return json;
  } catch (const Json::exception& error) {
    refuse(path, json_problem(error));
  }
  refuse(path, "is not a JSON object");
}

// None where it is absent or null, as Hugging Face writes what is left to the default.
std::optional<bool> flag(const Json& json, const char* key, const std::string& path) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) {
    return std::nullopt;
  }
  if (!found->is_boolean()) {
    refuse(path, fmt::format("{}: is neither true nor false", key));
  }
  return found->get<bool>();
}

bool is_space(utf8proc_int32_t c) {
  if (c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f' || c == 0x85) {
    return true;
  }
  const utf8proc_category_t category = utf8proc_category(c);
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

// Categories "other": control, format, private use, unassigned, surrogates.
bool is_control(utf8proc_int32_t c) {
  const utf8proc_category_t category = utf8proc_category(c);
  return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
         category == UTF8PROC_CATEGORY_CO || category == UTF8PROC_CATEGORY_CN ||
         category == UTF8PROC_CATEGORY_CS;
}

bool is_punctuation(utf8proc_int32_t c) {
  if (c < 128) {
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
           (c >= 123 && c <= 126);
  }
  const utf8proc_category_t category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool is_ideograph(utf8proc_int32_t c) {
  return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
         (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
         (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
         (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

// Calls visit(c) for every character; what is no UTF-8 counts as U+FFFD.
template <class Visit>
void for_each_character(std::string_view text, const Visit& visit) {
  const auto* at = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  auto left = static_cast<utf8proc_ssize_t>(text.size());
  while (left > 0) {
    utf8proc_int32_t c = 0;
    const utf8proc_ssize_t used = std::max<utf8proc_ssize_t>(1, utf8proc_iterate(at, left, &c));
    visit(c < 0 ? 0xfffd : c);
    at += used;
    left -= used;
  }
}

void append(std::string& text, utf8proc_int32_t c) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t count = utf8proc_encode_char(c, bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(count));
}

// Characters that stand for nothing are gone, every space is ' ', ideographs stand alone.
std::string cleaned(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for_each_character(text, [&](utf8proc_int32_t c) {
    if (is_space(c)) {
      clean += ' ';
    } else if (c == 0xfffd || is_control(c)) {
      return;
    } else if (is_ideograph(c)) {
      clean += ' ';
      append(clean, c);
      clean += ' ';
    } else {
      append(clean, c);
    }
  });
  return clean;
}

std::string without_accents(const std::string& text) {
  utf8proc_uint8_t* decomposed = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &decomposed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(decomposed, std::free);
  std::string plain;
  for_each_character({reinterpret_cast<const char*>(decomposed),
                      static_cast<size_t>(std::max<utf8proc_ssize_t>(0, size))},
                     [&](utf8proc_int32_t c) {
                       if (utf8proc_category(c) != UTF8PROC_CATEGORY_MN) {
                         append(plain, c);
                       }
                     });
  return plain;
}

}  // namespace

WordPiece::WordPiece(const std::string& model_directory) {
  read_vocabulary(model_directory);
  read_settings(model_directory);
  const auto special = [&](const std::string& name) {
    const auto found = pieces_.find(name);
    if (found == pieces_.end()) {
      throw Error(ExitCode::kCheckpoint,
                  fmt::format("{}: the vocabulary has no piece {}", model_directory, name),
                  "the model must be of BERT's family");
    }
    return found->second;
  };
  cls_ = special("[CLS]");
  sep_ = special("[SEP]");
  unknown_ = special("[UNK]");
  for (const auto& [piece, id] : pieces_) {
    longest_piece_ = std::max(longest_piece_, piece.size());
    vocab_size_ = std::max<int64_t>(vocab_size_, id + 1);
  }
}

void WordPiece::read_vocabulary(const std::string& directory) {
  const std::string lines = (fs::path(directory) / "vocab.txt").string();
  if (fs::exists(lines)) {
    std::istringstream text(read_text_file(lines, ExitCode::kCheckpoint));
    int32_t id = 0;
    for (std::string piece; std::getline(text, piece); ++id) {
      if (piece.ends_with('\r')) piece.pop_back();
      pieces_.emplace(piece, id);
    }
    return;
  }
  const std::string path = (fs::path(directory) / "tokenizer.json").string();
  const std::optional<Json> json = read_json(path);
  const Json::json_pointer place("/model/vocab");
  if (!json || !json->contains(place) || !(*json)[place].is_object()) {
    throw Error(ExitCode::kCheckpoint,
                fmt::format("{}: has neither vocab.txt nor a tokenizer.json with a WordPiece "
                            "vocabulary",
                            directory),
                "an encoder is a directory with config.json, model.safetensors and vocab.txt");
  }
  const Json& model = (*json)["model"];
  // Old files have no type.
  const Json type = model.value("type", Json(model.contains("merges") ? "BPE" : "WordPiece"));
  if (type != "WordPiece") {
    refuse(path, fmt::format("model.type: {} is not WordPiece", type.dump()));
  }
  for (const auto& [piece, id] : (*json)[place].items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > kLargestId) {
      refuse(path, fmt::format("model.vocab: the piece '{}' has the number {}", piece, id.dump()));
    }
    pieces_.emplace(piece, id.get<int32_t>());
  }
  const auto normaliser = json->find("normalizer");
  if (normaliser == json->end() || normaliser->is_null()) {
    return;
  }
  if (!normaliser->is_object() || normaliser->value("type", Json()) != "BertNormalizer") {
    refuse(path, "normalizer.type: is not BertNormalizer");
  }
  lowercases_ = flag(*normaliser, "lowercase", path).value_or(lowercases_);
  strips_accents_ = flag(*normaliser, "strip_accents", path);
}

// What it says counts, whatever tokenizer.json says.
void WordPiece::read_settings(const std::string& directory) {
  const std::string path = (fs::path(directory) / "tokenizer_config.json").string();
  if (const auto json = read_json(path)) {
    lowercases_ = flag(*json, "do_lower_case", path).value_or(lowercases_);
    if (const auto strips = flag(*json, "strip_accents", path)) strips_accents_ = strips;
  }
}

std::string WordPiece::normalise(std::string_view text) const {
  std::string clean = cleaned(text);
  if (strips_accents_.value_or(lowercases_) && std::any_of(clean.begin(), clean.end(), [](char c) {
        return static_cast<unsigned char>(c) >= 0x80;
      })) {
    clean = without_accents(clean);
  }
  if (!lowercases_) {
    return clean;
  }
  std::string lower;
  lower.reserve(clean.size());
  for_each_character(clean, [&](utf8proc_int32_t c) { append(lower, utf8proc_tolower(c)); });
  return lower;
}

std::vector<int32_t> WordPiece::encode(std::string_view text, size_t max_tokens) const {
  const std::string normal = normalise(text);
  std::vector<int32_t> ids;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty() && ids.size() < max_tokens) {
      append_word(word, ids);
    }
    word.clear();
  };
  for_each_character(normal, [&](utf8proc_int32_t c) {
    if (ids.size() >= max_tokens) {
      return;
    }
    if (is_space(c)) {
      end_word();
    } else if (is_punctuation(c)) {
      end_word();
      append(word, c);
      end_word();
    } else {
      append(word, c);
    }
  });
  end_word();
  ids.resize(std::min(ids.size(), max_tokens));
  return ids;
}

void WordPiece::append_word(std::string_view word, std::vector<int32_t>& ids) const {
  const auto is_inside = [&](size_t at) {  // of a character
    return at < word.size() && (static_cast<unsigned char>(word[at]) & 0xc0) == 0x80;
  };
  size_t characters = 0;
  for (size_t at = 0; at < word.size(); ++at) characters += is_inside(at) ? 0 : 1;
  const size_t before = ids.size();
  std::string piece;
  for (size_t begin = 0; begin < word.size();) {
    size_t end = std::min(word.size(), begin + longest_piece_);
    auto found = pieces_.end();
    for (; end > begin && found == pieces_.end(); --end) {
      if (is_inside(end)) {
        continue;
      }
      piece.assign(begin > 0 ? "##" : "");
      piece.append(word.substr(begin, end - begin));
      found = pieces_.find(piece);
    }
    if (found == pieces_.end() || characters > kLongestWord) {
      ids.resize(before);
      ids.push_back(unknown_);
      return;
    }
    ids.push_back(found->second);
    begin = end + 1;  // the loop has passed the piece's end once more
  }
}

}  // namespace lorikeet
