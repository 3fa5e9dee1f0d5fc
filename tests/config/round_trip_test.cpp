// Properties: what is dumped reads back, what is random never does worse than an Error.
#include <random>
#include <regex>

#include "config_testing.h"

namespace lorikeet {
namespace {

std::string paper_config() { return file_text(in_source("configs/paper/lory_0.3b_8e.yaml")); }

TEST(DumpRunConfig, ReadsBackToTheSameConfiguration) {
  RunConfig config = parse_run_config(paper_config(), "run.yaml");
  EXPECT_EQ(parse_run_config(dump_run_config(config), "dump"), config);
  config.data.mixture = {{"books", 2.5}, {"c4.en", 0.1}, {"~", 1e-7}};
  config.data.order = "an order: \"file\" # odd \\ \xC3\xA9";
  config.output = "...";
  config.name = "null";
  config.model.num_kv_heads = 0;
  config.checkpoint.every = Period::seconds(1800);
  config.schedule.peak = 1.0 / 3.0;
  config.log.peak_flops = 989e12;
  EXPECT_EQ(parse_run_config(dump_run_config(config), "dump"), config);
}

TEST(DumpRunConfig, NamesEveryKeyOfTheReference) {
  const std::string dumped = " " + dump_run_config(RunConfig());
  const std::string reference = config_reference();
  size_t keys = 0;
  for (size_t at = reference.find("\n| `"); at != std::string::npos;
       at = reference.find("\n| `", at + 1)) {
    const std::string key = reference.substr(at + 4, reference.find('`', at + 4) - at - 4);
    const std::regex line("[\\s]" + key + ":");
    EXPECT_TRUE(std::regex_search(dumped, line)) << key;
    ++keys;
  }
  EXPECT_GT(keys, 60u);
}

/// A few bytes of `text` replaced, removed, doubled, or swapped for something that matters in YAML.
std::string mutated(std::string text, std::mt19937& random) {
  constexpr const char* kPieces[] = {"\t", "- ",    ": ", "[",  "]",     "{", "}",    "&a ",
                                     "*a", "'",     "\"", "\n", "#",     "!", "%",    "|",
                                     ">",  "---\n", "? ", "-1", "1e999", "~", "\xFF", "0"};
  for (auto edits = 1 + random() % 4; edits > 0; --edits) {
    const size_t at = random() % (text.size() + 1);
    switch (random() % 4) {
      case 0:
        text.insert(at, kPieces[random() % std::size(kPieces)]);
        break;
      case 1:
        text.erase(at, random() % 20);
        break;
      case 2:
        text.insert(at, text.substr(random() % text.size(), random() % 40));
        break;
      default:
        text.insert(at, 1, static_cast<char>(random()));
        break;
    }
  }
  return text;
}

/// True if the text is valid; anything thrown but an Error fails the test.
bool is_valid(const std::string& text) {
  try {
    const RunConfig config = parse_run_config(text, "fuzz.yaml");
    EXPECT_EQ(parse_run_config(dump_run_config(config), "dump"), config) << text;
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_FALSE(std::string(error.what()).empty());
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what() << " for\n" << text;
  }
  return false;
}

TEST(ParseRunConfig, EveryMutationOfAGoodFileIsValidOrAnError) {
  std::mt19937 random(11);
  const std::string good = paper_config();
  int num_valid = 0;
  for (int i = 0; i < 1500; ++i) num_valid += is_valid(mutated(good, random));
  EXPECT_GT(num_valid, 50);    // edits of comments
  EXPECT_LT(num_valid, 1450);  // the mutations do reach the parser
}

TEST(ParseRunConfig, RandomBytesAreAnError) {
  std::mt19937 random(5);
  constexpr std::string_view kAlphabet = "ab:-[]{}&*!|>'\"%@`#,? \n\t0123.~<=";
  for (int i = 0; i < 3000; ++i) {
    std::string text;
    for (auto n = random() % 60; n > 0; --n) {
      const bool any_byte = i % 2 == 0;
      text += any_byte ? static_cast<char>(random()) : kAlphabet[random() % kAlphabet.size()];
    }
    EXPECT_FALSE(is_valid(text)) << text;
  }
}

TEST(ParseRunConfig, RandomOverridesAreValidOrAnError) {
  std::mt19937 random(6);
  for (int i = 0; i < 2000; ++i) {
    const std::string assignment =
        mutated("model.feed_forward={kind: merged, num_experts: 4}", random);
    try {
      parse_run_config("train: {steps: 10}", "run.yaml", {assignment});
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("--set"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace lorikeet
