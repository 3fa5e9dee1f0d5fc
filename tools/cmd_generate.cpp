// lorikeet generate: continues a text with any model directory that has a tokenizer.
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "lorikeet/core/error.h"
#include "lorikeet/core/file.h"
#include "lorikeet/core/log.h"
#include "lorikeet/evaluate/generate.h"
#include "lorikeet/evaluate/model_tokenizer.h"
#include "lorikeet/model/load.h"
#include "tools/commands.h"
#include "tools/options.h"

namespace lorikeet {

namespace {

struct GenerateCommand {
  std::string model, prompt, prompt_file, routing = "prompt";
  GenerateOptions options;
};

void report_speed(size_t prompt_tokens, const Generation& result) {
  log_info("read {} prompt tokens in {:.3f} s, wrote {} tokens in {:.3f} s{}", prompt_tokens,
           result.prompt_seconds, result.ids.size(), result.step_seconds,
           result.steps > 0 ? fmt::format(": {:.1f} tokens/s",
                                          static_cast<double>(result.steps) / result.step_seconds)
                            : "");
}

void run_generate(const GenerateCommand& command) {
  GenerateOptions options = command.options;
  if (command.routing == "segment") options.routing = GenerationRouting::kSegment;
  // What is wrong shows before the weights are read.
  check_sampling(options.sampling);
  read_model_config(command.model);
  const std::string text = command.prompt_file.empty()
                               ? command.prompt
                               : read_text_file(command.prompt_file, ExitCode::kData);
  const Tokenizer tokenizer = load_model_tokenizer(command.model);
  LanguageModel model = load_language_model(command.model);
  options.eos = tokenizer.eos();
  options.vocab_size = tokenizer.vocab_size();
  const std::vector<int64_t> prompt = encode_document(tokenizer, text);
  const Generation result = generate(model, prompt, options);
  std::cout << continuation_text(tokenizer, prompt, result.ids) << std::endl;
  report_speed(prompt.size(), result);
}

}  // namespace

void add_generate_command(CLI::App& app) {
  const auto given = std::make_shared<GenerateCommand>();
  GenerateOptions& options = given->options;
  CLI::App* command = app.add_subcommand("generate", "Continue a text");
  command->add_option("MODEL", given->model, "Model directory with a tokenizer.model")->required();
  CLI::Option_group* prompt = command->add_option_group("prompt", "What to continue, one of");
  prompt->add_option("--prompt", given->prompt, "The text itself; \"\" is BOS alone");
  prompt->add_option("--prompt-file", given->prompt_file, "A file, taken byte for byte");
  prompt->require_option(1);
  command->add_option("--max-tokens", options.max_tokens, "Tokens to write at most")
      ->check(whole_number(1))
      ->capture_default_str();
  command
      ->add_option("--routing", given->routing,
                   "prompt: experts merged once, for the whole prompt; segment: as in training")
      ->check(CLI::IsMember({"prompt", "segment"}))
      ->capture_default_str();
  command
      ->add_option("--temperature", options.sampling.temperature,
                   "Divides the logits; 0: always the most probable token")
      ->check(real_number(0, 1e6))
      ->capture_default_str();
  command->add_option("--top-k", options.sampling.top_k, "Only the K most probable; 0: all")
      ->check(whole_number(0))
      ->capture_default_str();
  command
      ->add_option("--top-p", options.sampling.top_p,
                   "Only the fewest most probable that together reach P")
      ->check(real_number(0, 1))
      ->capture_default_str();
  command->add_option("--seed", options.sampling.seed, "Of the random draws")
      ->check(seed_number())
      ->capture_default_str();
  command->callback([given] { run_generate(*given); });
}

}  // namespace lorikeet
