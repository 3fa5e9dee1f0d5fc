// lorikeet data batch: a document order in which similar documents follow each other.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>

#include "lorikeet/config/quantity.h"
#include "lorikeet/core/cuda_backend.h"
#include "lorikeet/core/error.h"
#include "lorikeet/core/hash.h"
#include "lorikeet/core/progress.h"
#include "lorikeet/data/order_file.h"
#include "lorikeet/parallel/launch.h"
#include "lorikeet/similarity/order_report.h"
#include "lorikeet/similarity/similarity_order.h"
#include "lorikeet/train/device.h"
#include "tools/commands.h"
#include "tools/options.h"

namespace lorikeet {
namespace {

namespace fs = std::filesystem;

struct BatchArguments {
  std::string folder;
  std::string output;
  std::string work;
  std::string memory = "4B";
  int64_t threads = 0;
  int64_t context_length = 4096;
  bool has_report = false;
  bool force = false;
  std::string encoder = "lexical";
  DeviceChoice device = DeviceChoice::kAuto;
  LexicalOptions lexical;
  DenseOptions dense;
  SimilarityOrderOptions order;
};

std::string or_beside_shards(const std::string& given, const BatchArguments& arguments,
                             const char* name) {
  return given.empty() ? (fs::path(arguments.folder) / name).string() : given;
}

void print_summary(const SimilarityOrder& order, const std::string& output, double seconds) {
  const auto rows = static_cast<int64_t>(order.path.rows.size());
  if (order.duplicates) {
    const auto& originals = order.duplicates->original;
    const auto repeated = std::count_if(originals.begin(), originals.end(),
                                        [](uint32_t row) { return row != Neighbour::kNone; });
    fmt::print(
        "{} documents repeat an earlier one; {}\n", with_separators(repeated),
        order.options.duplicates == FindingMode::kDrop ? "they are left out" : "they are kept");
  }
  fmt::print("{}: {} documents, {} edges, path weight {:.1f} ({:.4f} a step), {} jumps, in {}\n",
             output, with_separators(rows),
             with_separators(static_cast<int64_t>(order.graph.num_edges())), order.path.weight,
             order.path.weight / static_cast<double>(std::max<int64_t>(1, rows - 1)),
             with_separators(static_cast<int64_t>(order.path.num_jumps)), clock_time(seconds));
}

void print_report(const SimilarityOrder& order, const BatchArguments& arguments,
                  const std::string& encoder, const std::string& page) {
  const OrderReport report = make_report(order, {.context_length = arguments.context_length,
                                                 .seed = arguments.order.seed,
                                                 .num_threads = arguments.threads,
                                                 .encoder = encoder});
  fmt::print("{}", to_text(report));
  write_file_atomically(page, to_html(report), ExitCode::kData);
  fmt::print("{}\n", page);
}

std::string device_name(DeviceChoice choice, int64_t local_rank) {
  std::string why_not;
  if (choice == DeviceChoice::kCuda && !load_cuda_backend(&why_not)) {
    throw Error(ExitCode::kUsage, fmt::format("--device: cuda is not available here: {}", why_not),
                "--device auto takes a GPU where there is one, else the CPU");
  }
  return select_device(choice, static_cast<int>(local_rank)).str();
}

std::unique_ptr<Encoder> make_encoder(BatchArguments& arguments, const Crew& crew) {
  const int64_t memory =
      count_option("--memory", arguments.memory, 1, "write bytes, such as 500M or 4B");
  if (arguments.encoder == "lexical") {
    arguments.lexical.memory_bytes = memory;
    return make_lexical_encoder(arguments.lexical);
  }
  arguments.dense.model = arguments.encoder;
  arguments.dense.memory_bytes = memory;
  arguments.dense.device = device_name(arguments.device, crew.local_rank);
  return make_dense_encoder(arguments.dense);
}

void run_batch(BatchArguments& arguments) {
  const LaunchEnvironment launch = read_launch_environment();
  const Crew crew{.rank = launch.rank,
                  .world_size = launch.world_size,
                  .num_threads = arguments.threads,
                  .local_rank = launch.local_rank};
  const auto encoder = make_encoder(arguments, crew);
  if (arguments.force && crew.world_size > 1) {
    throw Error(ExitCode::kUsage, "--force: several processes cannot start over together",
                "run it once with --force --until embed alone, then all of them without");
  }
  const Dataset dataset(arguments.folder);
  const Corpus corpus(dataset, encoder->block_rows());
  const StageFolder folder(or_beside_shards(arguments.work, arguments, "similarity"),
                           dataset.fingerprint(), arguments.force);
  const std::string output = or_beside_shards(arguments.output, arguments, kSimilarityOrderFile);
  const ProgressBar clock("", 0);
  const auto order = make_similarity_order(corpus, *encoder, folder, crew, arguments.order, output);
  if (!order || arguments.order.last != Stage::kOrder) {
    return;
  }
  print_summary(*order, output, clock.elapsed_seconds());
  if (arguments.has_report) {
    print_report(*order, arguments, encoder->key(), folder.path("report.html"));
  }
}

void add_stage_options(CLI::App& command, BatchArguments& arguments) {
  static const std::map<std::string, Stage> kStages = {
      {"embed", Stage::kEmbed},   {"neighbours", Stage::kNeighbours},
      {"filter", Stage::kFilter}, {"deduplicate", Stage::kDeduplicate},
      {"path", Stage::kPath},     {"order", Stage::kOrder}};
  static const std::map<std::string, FindingMode> kModes = {
      {"off", FindingMode::kOff}, {"mark", FindingMode::kMark}, {"drop", FindingMode::kDrop}};
  SimilarityOrderOptions& order = arguments.order;
  command.add_option("--neighbours", order.num_neighbours, "Nearest documents of each")
      ->check(whole_number(1, 1000))
      ->capture_default_str();
  add_choice(command, "--filters", order.filters, kModes,
             "Documents that repeat a few tokens or words: off: not looked for; mark: counted "
             "and kept (default); drop: left out");
  add_choice(command, "--duplicates", order.duplicates, kModes,
             "off: not looked for; mark: counted and kept (default); drop: left out");
  command
      .add_option("--duplicate-cosine", order.duplicate_rule.cosine,
                  "From this cosine on a document repeats another; above 1: none does")
      ->check(real_number(0, 2))
      ->capture_default_str();
  command
      .add_option("--duplicate-jaccard", order.duplicate_rule.jaccard,
                  "The same for the share of common word 3-grams")
      ->check(real_number(0, 2))
      ->capture_default_str();
  command.add_option("--seed", order.seed, "Of the jumps at dead ends")
      ->check(seed_number())
      ->capture_default_str();
  command
      .add_option("--path-shards", order.path_shards,
                  "Cut the documents into so many paths, walked in parallel")
      ->check(whole_number(1, 100'000))
      ->capture_default_str();
  command
      .add_option("--improve", order.improve_passes,
                  "Passes of local improvement (Or-opt and 2-opt) over the path, at most")
      ->check(whole_number(0))
      ->capture_default_str();
  add_choice(command, "--until", order.last, kStages, "Stop behind this stage; default: order");
}

void add_encoder_options(CLI::App& command, BatchArguments& arguments) {
  static const std::map<std::string, SearchKind> kKinds = {{"auto", SearchKind::kAuto},
                                                           {"exact", SearchKind::kExact},
                                                           {"ivf", SearchKind::kIvf},
                                                           {"ivf-sq", SearchKind::kIvfSq},
                                                           {"ivf-pq", SearchKind::kIvfPq}};
  static const std::map<std::string, DeviceChoice> kDevices = {
      {"auto", DeviceChoice::kAuto}, {"cpu", DeviceChoice::kCpu}, {"cuda", DeviceChoice::kCuda}};
  static const std::map<std::string, bool> kPrecisions = {{"fp32", false}, {"bf16", true}};
  DenseOptions& dense = arguments.dense;
  command
      .add_option("--encoder", arguments.encoder,
                  "lexical (BM25, no model), or the directory of a BERT-family encoder")
      ->capture_default_str();
  add_choice(command, "--precision", dense.uses_bf16, kPrecisions,
             "Of the encoder: fp32 (default) or bf16");
  add_choice(command, "--device", arguments.device, kDevices,
             "Of the encoder: auto (default; a GPU where there is one), cpu or cuda");
  command
      .add_option("--chunks", dense.max_chunks,
                  "Chunks of 512 tokens of a document that the encoder reads; 0: all")
      ->check(whole_number(0))
      ->capture_default_str();
  command
      .add_option("--batch-tokens", dense.batch_tokens,
                  "Tokens that a thread, or the GPU, embeds at once")
      ->check(whole_number(1))
      ->capture_default_str();
  add_choice(command, "--search", dense.search.kind, kKinds,
             "auto (default), exact, ivf, ivf-sq or ivf-pq");
  command.add_option("--probes", dense.search.num_probes, "Lists that an IVF search reads")
      ->check(whole_number(1))
      ->capture_default_str();
  command
      .add_option("--terms", arguments.lexical.num_terms,
                  "Words of a document that the lexical encoder compares")
      ->check(whole_number(1, 100'000))
      ->capture_default_str();
  command
      .add_option("--postings", arguments.lexical.max_postings,
                  "Documents that its index lists for a word, at most")
      ->check(whole_number(1))
      ->capture_default_str();
}

}  // namespace

void add_data_batch(CLI::App& data) {
  auto* command = data.add_subcommand(
      "batch", "Put similar documents next to each other: makes the order for data.order");
  auto arguments = std::make_shared<BatchArguments>();
  command->add_option("folder", arguments->folder, "Made by `lorikeet data tokenize`")->required();
  command->add_option("--output", arguments->output,
                      "The order file; default: similarity.order next to the shards");
  command->add_option("--work", arguments->work,
                      "Folder of the stages' files; default: similarity/ next to the shards");
  add_encoder_options(*command, *arguments);
  add_stage_options(*command, *arguments);
  command->add_option("--memory", arguments->memory, "Bytes for one index; more rows, more indices")
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "0: all cores")
      ->check(whole_number(0, 4096))
      ->capture_default_str();
  command->add_flag(
      "--report", arguments->has_report,
      "Print what the order is worth, and write it as report.html in the work folder");
  command
      ->add_option("--context-length", arguments->context_length,
                   "Tokens of the contexts that the report counts")
      ->check(whole_number(1))
      ->capture_default_str();
  command->add_flag("--force", arguments->force, "Start over, whatever is in the work folder");
  command->callback([arguments] { run_batch(*arguments); });
}

}  // namespace lorikeet
