#include "lorikeet/data/tokenize.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "held_out.h"
#include "input_chunks.h"
#include "lorikeet/config/quantity.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/core/log.h"
#include "lorikeet/core/progress.h"
#include "lorikeet/data/shard.h"
#include "lorikeet/data/tokenizer.h"
#include "ordered_pipeline.h"
#include "tokenize_state.h"

namespace lorikeet {

namespace {

namespace fs = std::filesystem;

struct EncodedDocument {
  size_t num_tokens = 0;
  std::string domain;
  uint64_t hash = 0;
  InputPosition after;
  int64_t skipped_before = 0;  // bad lines since the document before it
};

struct EncodedChunk {
  std::vector<int32_t> tokens;  // of all its documents
  std::vector<EncodedDocument> documents;
  int64_t skipped_behind = 0;  // bad lines behind the last document
  int64_t text_bytes = 0;
  int64_t stored_bytes_read = 0;
};

// One thread's part: parses the lines of a chunk and encodes their texts.
class ChunkEncoder {
 public:
  ChunkEncoder(const TokenizeOptions& options, const Tokenizer& tokenizer)
      : options_(options), tokenizer_(tokenizer), parser_(options.jsonl) {}

  EncodedChunk encode(const InputChunk& chunk) {
    EncodedChunk out;
    out.stored_bytes_read = chunk.stored_bytes_read;
    const std::string default_domain = file_stem(chunk.path);
    for (const InputChunk::Line& line : chunk.lines) {
      try {
        const std::string_view bytes(chunk.bytes.data() + line.begin, line.size);
        add(parser_.parse(bytes, default_domain), line.after, out);
      } catch (const BadLine& bad) {
        if (!options_.jsonl.skip_bad) {
          refuse_line(chunk.path, line.after.line, bad.what());
        }
        ++out.skipped_behind;
      }
    }
    return out;
  }

 private:
  void add(const Document& document, const InputPosition& after, EncodedChunk& out) {
    const std::vector<int32_t> ids = tokenizer_.encode(document.text);
    if (ids.empty()) {
      throw BadLine("the tokenizer makes no tokens of the text");
    }
    const size_t before = out.tokens.size();
    if (options_.add_bos) {
      out.tokens.push_back(tokenizer_.bos());
    }
    out.tokens.insert(out.tokens.end(), ids.begin(), ids.end());
    if (options_.add_eos) {
      out.tokens.push_back(tokenizer_.eos());
    }
    out.documents.push_back({.num_tokens = out.tokens.size() - before,
                             .domain = std::string(document.domain),
                             .hash = hash64(document.text),
                             .after = after,
                             .skipped_before = out.skipped_behind});
    out.skipped_behind = 0;
    out.text_bytes += static_cast<int64_t>(document.text.size());
  }

  const TokenizeOptions& options_;
  const Tokenizer& tokenizer_;
  DocumentParser parser_;
};

class TokenizeJob {
 public:
  explicit TokenizeJob(const TokenizeOptions& options)
      : options_(options),
        tokenizer_(options.tokenizer),
        builder_(tokenizer_.vocab_size(), tokenizer_.hash()) {
    check_options();
    state_.made_from = describe();
  }

  TokenizeReport run() {
    if (prepare_folder()) {
      return report_;
    }
    ChunkReader reader(options_.inputs);
    reader.skip_to(state_.position);
    encode_all(reader);
    finish();
    return report_;
  }

 private:
  void check_options();
  std::string describe();
  bool prepare_folder();
  void check_resumed_shards();
  void encode_all(ChunkReader& reader);
  void add(const EncodedChunk& chunk);
  void close_shard();
  void finish();
  std::string path(const std::string& name) const {
    return (fs::path(options_.output) / name).string();
  }

  const TokenizeOptions& options_;
  Tokenizer tokenizer_;
  ShardBuilder builder_;
  std::optional<FolderLock> lock_;
  TokenizeState state_;     // up to the last closed shard
  InputPosition position_;  // behind the last document taken
  int64_t skipped_lines_ = 0;
  int64_t input_bytes_ = 0;
  TokenizeReport report_;
};

void TokenizeJob::check_options() {
  const auto refuse = [](const std::string& what, const std::string& hint) {
    throw Error(ExitCode::kUsage, what, hint);
  };
  if (options_.inputs.empty()) {
    refuse("--input: names no file", "give one or more JSONL files");
  }
  if (!(options_.held_out >= 0 && options_.held_out < 1)) {
    refuse(fmt::format("--held-out: {} is not a share from 0 to below 1", options_.held_out),
           "0.01 holds one document in a hundred out");
  }
  if (options_.shard_tokens < 1) {
    refuse(fmt::format("--shard-tokens: {} is not positive", options_.shard_tokens),
           "64M is usual");
  }
  if (options_.add_bos && tokenizer_.bos() < 0) {
    refuse(fmt::format("{}: the tokenizer has no BOS", options_.tokenizer), "give --no-bos");
  }
  if (options_.add_eos && tokenizer_.eos() < 0) {
    refuse(fmt::format("{}: the tokenizer has no EOS", options_.tokenizer), "give --no-eos");
  }
}

std::string TokenizeJob::describe() {
  nlohmann::ordered_json inputs = nlohmann::ordered_json::array();
  for (const std::string& input : options_.inputs) {
    const InputFingerprint fingerprint = fingerprint_input(input);
    input_bytes_ += static_cast<int64_t>(fingerprint.bytes);
    inputs.push_back({{"name", fs::path(input).filename().string()},
                      {"bytes", fingerprint.bytes},
                      {"fingerprint", to_hex(fingerprint.hash)}});
  }
  return nlohmann::ordered_json{{"inputs", inputs},
                                {"tokenizer", to_hex(tokenizer_.hash())},
                                {"text_key", options_.jsonl.text_key},
                                {"domain_key", options_.jsonl.domain_key},
                                {"add_bos", options_.add_bos},
                                {"add_eos", options_.add_eos},
                                {"held_out", options_.held_out},
                                {"shard_tokens", options_.shard_tokens}}
      .dump();
}

// @return whether the folder already holds the finished result
bool TokenizeJob::prepare_folder() {
  std::error_code failure;
  fs::create_directories(options_.output, failure);
  if (failure) {
    throw Error(ExitCode::kData,
                fmt::format("{}: cannot make the folder: {}", options_.output, failure.message()),
                "choose another --output");
  }
  lock_.emplace(options_.output);
  remove_run_files(options_.output, /*finished=*/options_.force);
  if (fs::exists(path(kManifestFile))) {
    require_same_run(options_.output, read_manifest(options_.output).made_from, state_.made_from);
    report_.was_complete = true;
    return true;
  }
  if (std::optional<TokenizeState> stopped = read_state(options_.output)) {
    require_same_run(options_.output, stopped->made_from, state_.made_from);
    state_ = std::move(*stopped);
    position_ = state_.position;
    skipped_lines_ = state_.skipped_lines;
    check_resumed_shards();
  }
  return false;
}

void TokenizeJob::check_resumed_shards() {
  for (const ShardRecord& record : state_.shards) {
    const Shard shard(path(record.file));
    if (shard.header().header_checksum != record.checksum) {
      throw Error(ExitCode::kData,
                  fmt::format("{}: header: expected checksum {}, found {}", shard.path(),
                              to_hex(record.checksum), to_hex(shard.header().header_checksum)),
                  "--force starts over");
    }
  }
  report_.resumed_shards = static_cast<int64_t>(state_.shards.size());
  log_info("going on behind shard {}, line {} of {}", state_.shards.size(), position_.line,
           options_.inputs[static_cast<size_t>(position_.file)]);
}

void TokenizeJob::encode_all(ChunkReader& reader) {
  const int64_t already_read =
      reader.stored_bytes_read();  // the threads own the reader from here on
  const int64_t cores = std::max(1u, std::thread::hardware_concurrency());
  OrderedPipeline<InputChunk, EncodedChunk> pipeline(
      options_.threads > 0 ? options_.threads : cores,
      [&](InputChunk& chunk) { return reader.next(chunk); },
      [&] {
        auto encoder = std::make_shared<ChunkEncoder>(options_, tokenizer_);
        return [encoder](const InputChunk& chunk) { return encoder->encode(chunk); };
      });
  ProgressBar progress("tokenize", static_cast<double>(input_bytes_));
  progress.start_from(static_cast<double>(already_read));
  while (const std::optional<EncodedChunk> chunk = pipeline.next()) {
    add(*chunk);
    progress.update(static_cast<double>(chunk->stored_bytes_read), [&] {
      const double seconds = progress.elapsed_seconds();
      return fmt::format("{} documents/s, {:.1f} MB/s",
                         with_separators(static_cast<int64_t>(report_.documents / seconds)),
                         report_.text_bytes / seconds / 1e6);
    });
  }
  if (builder_.num_documents() > 0) {
    close_shard();
  }
  report_.seconds = progress.elapsed_seconds();
}

void TokenizeJob::add(const EncodedChunk& chunk) {
  std::span<const int32_t> rest(chunk.tokens);
  for (const EncodedDocument& document : chunk.documents) {
    builder_.add(rest.first(document.num_tokens), document.domain, document.hash);
    rest = rest.subspan(document.num_tokens);
    position_ = document.after;
    skipped_lines_ += document.skipped_before;
    if (builder_.num_tokens() >= options_.shard_tokens) {
      close_shard();
    }
  }
  skipped_lines_ += chunk.skipped_behind;
  report_.documents += static_cast<int64_t>(chunk.documents.size());
  report_.tokens += static_cast<int64_t>(chunk.tokens.size());
  report_.text_bytes += chunk.text_bytes;
}

void TokenizeJob::close_shard() {
  ShardRecord record{.file = fmt::format("shard_{:05}.tokens", state_.shards.size()),
                     .documents = builder_.num_documents(),
                     .tokens = builder_.num_tokens()};
  record.checksum = builder_.write(path(record.file));
  state_.shards.push_back(record);
  state_.position = position_;
  state_.skipped_lines = skipped_lines_;
  write_state(options_.output, state_);
}

void TokenizeJob::finish() {
  if (state_.shards.empty()) {
    throw Error(
        ExitCode::kData,
        fmt::format("the input holds no documents; {} bad lines were skipped", skipped_lines_),
        "each line is one JSON object with a \"text\"");
  }
  std::vector<Shard> shards;
  for (const ShardRecord& record : state_.shards) {
    shards.emplace_back(path(record.file));
  }
  Manifest manifest{.tokenizer_hash = tokenizer_.hash(),
                    .vocab_size = tokenizer_.vocab_size(),
                    .bos = options_.add_bos ? tokenizer_.bos() : -1,
                    .eos = options_.add_eos ? tokenizer_.eos() : -1,
                    .shards = state_.shards,
                    .domains = {},
                    .held_out = choose_held_out(shards, options_.held_out),
                    .skipped_lines = skipped_lines_,
                    .made_from = state_.made_from};
  manifest.domains = count_domains(shards, manifest.held_out);
  write_file_atomically(path(kTokenizerFile), read_text_file(options_.tokenizer, ExitCode::kData),
                        ExitCode::kData);
  write_file_atomically(path(kManifestFile), to_json(manifest), ExitCode::kData);
  fs::remove(path(kProgressFile));
}

}  // namespace

TokenizeReport tokenize(const TokenizeOptions& options) { return TokenizeJob(options).run(); }

}  // namespace lorikeet
