// lorikeet data: tokenizer, tokenize, inspect; `batch` is in cmd_data_batch.cpp.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "lorikeet/config/quantity.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/core/progress.h"
#include "lorikeet/data/dataset.h"
#include "lorikeet/data/tokenize.h"
#include "lorikeet/data/tokenizer.h"
#include "lorikeet/data/tokenizer_training.h"
#include "tools/commands.h"
#include "tools/options.h"

namespace lorikeet {
namespace {

constexpr const char* kCountHint = "write a whole number, such as 64000, 64K or 10M";

double share_option(const std::string& name, const std::string& text) {
  const bool is_percent = text.ends_with('%');
  try {
    size_t used = 0;
    const double value = std::stod(text, &used);
    if (used + (is_percent ? 1 : 0) == text.size()) return is_percent ? value / 100 : value;
  } catch (const std::exception&) {
  }
  throw Error(ExitCode::kUsage, fmt::format("{}: '{}' is not a share", name, text),
              "write 1% or 0.01");
}

void add_jsonl_options(CLI::App& command, JsonlOptions& jsonl) {
  command.add_option("--text-key", jsonl.text_key, "Key of a document's text")
      ->capture_default_str();
  command
      .add_option("--domain-key", jsonl.domain_key,
                  "Key of a document's domain; the file's name where a line has none")
      ->capture_default_str();
  command.add_flag("--skip-bad", jsonl.skip_bad, "Count and skip bad lines instead of stopping");
}

// ---- data tokenizer

struct TokenizerArguments {
  TokenizerTraining training;
  std::string vocab_size = "32000";
  std::string sample_bytes = "0";
};

void run_tokenizer(TokenizerArguments& arguments) {
  TokenizerTraining& training = arguments.training;
  training.vocab_size = count_option("--vocab-size", arguments.vocab_size, 0, kCountHint);
  training.sample_bytes = count_option("--sample-bytes", arguments.sample_bytes, 0, kCountHint);
  train_tokenizer(training);
  const Tokenizer tokenizer(training.output);
  fmt::print("{}: {} pieces, hash {}\n", training.output, with_separators(tokenizer.vocab_size()),
             to_hex(tokenizer.hash()));
}

void add_tokenizer(CLI::App& data) {
  auto* command = data.add_subcommand("tokenizer", "Train a SentencePiece BPE tokenizer");
  auto arguments = std::make_shared<TokenizerArguments>();
  TokenizerTraining& training = arguments->training;
  command->add_option("--input", training.inputs, "JSONL files, plain, .gz or .zst")->required();
  command->add_option("--output", training.output, "The model to write")->required();
  command->add_option("--vocab-size", arguments->vocab_size, "Pieces, 259 special ones included")
      ->capture_default_str();
  command
      ->add_option("--sample-bytes", arguments->sample_bytes,
                   "Learn from about so many bytes of text; 0: from all")
      ->capture_default_str();
  add_jsonl_options(*command, training.jsonl);
  command->callback([arguments] { run_tokenizer(*arguments); });
}

// ---- data inspect

void print_domains(const Dataset& dataset) {
  static constexpr auto kRow = "{:<28} {:>14} {:>16} {:>12} {:>14}\n";
  const auto print = [](const DomainRecord& row) {
    fmt::print(kRow, row.name, with_separators(row.documents[0]), with_separators(row.tokens[0]),
               with_separators(row.documents[1]), with_separators(row.tokens[1]));
  };
  fmt::print(kRow, "", "training", "", "held out", "");
  fmt::print(kRow, "domain", "documents", "tokens", "documents", "tokens");
  DomainRecord total{.name = "total"};
  for (const DomainRecord& domain : dataset.domains()) {
    print(domain);
    for (const int split : {0, 1}) {
      total.documents[split] += domain.documents[split];
      total.tokens[split] += domain.tokens[split];
    }
  }
  print(total);
}

void print_skipped(const Manifest& manifest) {
  if (manifest.skipped_lines == 0) return;
  fmt::print("bad lines skipped: {}\n", with_separators(manifest.skipped_lines));
}

void print_lengths(const Dataset& dataset) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < dataset.num_documents(); ++i) {
    lengths.push_back(dataset.document(i).num_tokens);
  }
  std::sort(lengths.begin(), lengths.end());
  fmt::print("tokens a document: ");
  for (const int percent : {0, 10, 50, 90, 99, 100}) {
    const size_t rank = (lengths.size() - 1) * static_cast<size_t>(percent) / 100;
    const std::string name = percent == 0     ? "least"
                             : percent == 100 ? "most"
                                              : fmt::format("{}%", percent);
    fmt::print(" {} {}{}", name, with_separators(lengths[rank]), percent == 100 ? "\n" : ",");
  }
}

void print_document(const Dataset& dataset, int64_t number) {
  if (number >= dataset.num_documents()) {
    throw Error(
        ExitCode::kUsage,
        fmt::format("--document: {} is not in 0 .. {}", number, dataset.num_documents() - 1),
        "without --document the command lists how many there are");
  }
  const DocumentInfo document = dataset.document(number);
  fmt::print("document {}: domain {}, {}, {} tokens, text hash {}\n", number,
             dataset.domains()[document.domain].name,
             document.split == Split::kTrain ? "training" : "held out", document.num_tokens,
             to_hex(document.hash));
  fmt::print("{}\n", Tokenizer(dataset.tokenizer_path()).decode(dataset.tokens(number)));
}

struct InspectArguments {
  std::string folder;
  int64_t document = -1;
  bool quick = false;
};

void run_inspect(const InspectArguments& arguments) {
  const Dataset dataset(arguments.folder,
                        arguments.quick ? Dataset::Verify::kTables : Dataset::Verify::kEverything);
  if (!arguments.quick) dataset.verify_tokenizer();
  if (arguments.document >= 0) {
    print_document(dataset, arguments.document);
    return;
  }
  const Manifest& manifest = dataset.manifest();
  fmt::print("{}: fingerprint {}, {} shards, vocabulary {}, tokenizer {}\n", arguments.folder,
             to_hex(dataset.fingerprint()), manifest.shards.size(),
             with_separators(dataset.vocab_size()), to_hex(dataset.tokenizer_hash()));
  print_domains(dataset);
  print_lengths(dataset);
  print_skipped(manifest);
  fmt::print("checksums: {}\n",
             arguments.quick ? "headers and tables are right; tokens not read" : "all are right");
}

void add_inspect(CLI::App& data) {
  auto* command = data.add_subcommand("inspect", "Verify token shards and show what they hold");
  auto arguments = std::make_shared<InspectArguments>();
  command->add_option("folder", arguments->folder, "Made by `lorikeet data tokenize`")->required();
  command->add_option("--document", arguments->document, "Show this document, decoded, from 0")
      ->check(whole_number(0));
  command->add_flag("--quick", arguments->quick, "Leave the tokens' checksums unread");
  command->callback([arguments] { run_inspect(*arguments); });
}

// ---- data tokenize

struct TokenizeArguments {
  TokenizeOptions options;
  std::string held_out = "1%";
  std::string shard_tokens = "64M";
  bool no_bos = false;
  bool no_eos = false;
};

void run_tokenize(TokenizeArguments& arguments) {
  TokenizeOptions& options = arguments.options;
  options.held_out = share_option("--held-out", arguments.held_out);
  options.shard_tokens = count_option("--shard-tokens", arguments.shard_tokens, 1, kCountHint);
  options.add_bos = !arguments.no_bos;
  options.add_eos = !arguments.no_eos;
  const TokenizeReport report = tokenize(options);
  if (report.was_complete) {
    fmt::print("{} is complete already\n", options.output);
  } else {
    fmt::print("{} documents, {} tokens in {} ({:.0f} documents/s, {:.1f} MB/s)\n",
               with_separators(report.documents), with_separators(report.tokens),
               clock_time(report.seconds), report.documents / report.seconds,
               report.text_bytes / report.seconds / 1e6);
  }
  const Dataset dataset(options.output);
  print_domains(dataset);
  print_skipped(dataset.manifest());
}

void add_tokenize(CLI::App& data) {
  auto* command = data.add_subcommand(
      "tokenize", "Turn text into token shards; called again, a stopped run goes on");
  auto arguments = std::make_shared<TokenizeArguments>();
  TokenizeOptions& options = arguments->options;
  command->add_option("--input", options.inputs, "JSONL files, plain, .gz or .zst")->required();
  command->add_option("--tokenizer", options.tokenizer, "SentencePiece model")->required();
  command->add_option("--output", options.output, "Folder for the shards")->required();
  command
      ->add_option("--held-out", arguments->held_out,
                   "Share of the documents kept for validation, in every domain")
      ->capture_default_str();
  command->add_option("--shard-tokens", arguments->shard_tokens, "Tokens a shard, about")
      ->capture_default_str();
  command->add_option("--threads", options.threads, "0: all cores")
      ->check(whole_number(0, 4096))
      ->capture_default_str();
  command->add_flag("--no-bos", arguments->no_bos, "No BOS in front of a document");
  command->add_flag("--no-eos", arguments->no_eos, "No EOS behind a document");
  command->add_flag("--force", options.force, "Start over, whatever is in the folder");
  add_jsonl_options(*command, options.jsonl);
  command->callback([arguments] { run_tokenize(*arguments); });
}

}  // namespace

void add_data_command(CLI::App& app) {
  auto* data = app.add_subcommand("data", "Tokenizers and token shards");
  data->require_subcommand(1);
  add_tokenizer(*data);
  add_tokenize(*data);
  add_inspect(*data);
  add_data_batch(*data);
}

}  // namespace lorikeet
