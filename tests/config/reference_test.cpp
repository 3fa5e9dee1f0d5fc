#include "config_testing.h"

namespace lorikeet {
namespace {

TEST(ConfigReference, IsWhatDocsConfigSays) {
  EXPECT_EQ(file_text(in_source("docs/config.md")), config_reference())
      << "run: lorikeet config-reference > docs/config.md";
}

TEST(ConfigReference, HasASectionForEachComponentAndALineForEachKey) {
  const std::string page = config_reference();
  for (const char* text :
       {"## Top level", "## `model`", "## `model.feed_forward`", "## `model.feed_forward.smear`",
        "## `data`", "## `train`", "## `optimizer`", "## `schedule`", "## `checkpoint`",
        "## `evaluate`", "## `log`", "## `safety`", "## `parallel`",
        "| `dense_warmup` | period | `never` |", "| `betas` | numbers | `[0.9, 0.95]` |",
        "*causal_segment, prefix, sequence*", "| `mixture` | map of numbers | none |"}) {
    EXPECT_NE(page.find(text), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace lorikeet
