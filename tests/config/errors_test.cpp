// What is said of a configuration whose keys, values or YAML are wrong. Rules between keys:
// rules_test.cpp.
#include <fmt/format.h>

#include "config_testing.h"

namespace lorikeet {
namespace {

constexpr const char* kReference = "`lorikeet config-reference` lists every key";

TEST(ConfigKeys, AllUnknownOnesAreListedAtOnceWithTheNearest) {
  EXPECT_EQ(error_of("nmae: x\nmodel:\n  hiden_size: 8\n  feed_forward:\n    Num-Experts: 3\n"
                     "segment_length: 4\nmodle: {a: 1}\ntrain: {shards: x}\nzzzzzz: 1\n"),
            "run.yaml:1: nmae: unknown key; did you mean name?\n"
            "run.yaml:3: model.hiden_size: unknown key; did you mean model.hidden_size?\n"
            "run.yaml:5: model.feed_forward.Num-Experts: unknown key; did you mean "
            "model.feed_forward.num_experts?\n"
            "run.yaml:6: segment_length: unknown key; did you mean "
            "model.feed_forward.segment_length?\n"
            "run.yaml:7: modle: unknown key; did you mean model?\n"
            "run.yaml:8: train.shards: unknown key; did you mean data.shards?\n"
            "run.yaml:9: zzzzzz: unknown key | " +
                std::string(kReference));
}

TEST(ConfigKeys, UnknownOnesOnTheCommandLineSaySo) {
  EXPECT_EQ(error_of(run_with(""), {"train.setps=3", "modle.xyzzy=1"}),
            "--set train.setps=3: train.setps: unknown key; did you mean train.steps?\n"
            "--set modle.xyzzy=1: modle.xyzzy: unknown key; did you mean model? | " +
                std::string(kReference));
}

TEST(ConfigKeys, ASectionTheUserNamedIsNoSuggestion) {
  const std::string unknown = ": unknown key | " + std::string(kReference);
  for (const char* key : {"model.zzzz", "model.feed_forward.zzzz", "model.zzzz.yyyy"}) {
    EXPECT_EQ(error_of(run_with(""), {std::string(key) + "=1"}),
              fmt::format("--set {0}=1: {0}{1}", key, unknown));
  }
}

TEST(ConfigKeys, DuplicatesAreRefused) {
  EXPECT_EQ(error_of("train: {steps: 1}\nseed: 1\nseed: 2\n"),
            "run.yaml:3: seed: set twice; first in line 2 | remove one of the two");
  EXPECT_EQ(error_of("train: {steps: 1}\nmodel: {num_layers: 1}\nmodel: {num_layers: 1}\n"),
            "run.yaml:3: model: set twice; first in line 2 | remove one of the two");
  EXPECT_EQ(error_of(run_with("data: {mixture: {a: 1, a: 2}}")),
            "run.yaml:2: data.mixture.a: set twice; first in line 2 | remove one of the two");
}

TEST(ConfigKeys, DottedOnesAreForTheCommandLine) {
  EXPECT_EQ(error_of("train.steps: 3\n"),
            "run.yaml:1: train.steps: dotted keys are for --set only | "
            "in a file, nest them: one level a line, indented");
}

TEST(ConfigKeys, MustBeWords) {
  EXPECT_EQ(error_of("? [a]\n: 1\n"),
            "run.yaml:1: has a key that is not a word | keys are plain words");
  EXPECT_EQ(error_of(run_with("model:\n  : 1\n")),
            "run.yaml:3: model: has a key that is not a word | keys are plain words");
}

TEST(ConfigKeys, NeedAValueOfTheRightShape) {
  const std::string empty = " has no value | give it one, or remove the key for the default";
  EXPECT_EQ(error_of(run_with("seed:\n")), "run.yaml:2: seed:" + empty);
  EXPECT_EQ(error_of(run_with("seed: ~\n")), "run.yaml:2: seed:" + empty);
  EXPECT_EQ(error_of(run_with("model:\n  # all out\n")), "run.yaml:2: model:" + empty);
  EXPECT_EQ(error_of(run_with(""), {"seed="}), "--set seed=: seed:" + empty);
  EXPECT_EQ(error_of(run_with("seed: [1]\n")),
            "run.yaml:2: seed: a list where a single value belongs | "
            "write one value, without brackets or keys");
  EXPECT_EQ(error_of(run_with("seed: {a: 1}\n")),
            "run.yaml:2: seed: keys and values where a single value belongs | "
            "write one value, without brackets or keys");
  EXPECT_EQ(error_of(run_with("model: 5\n")),
            "run.yaml:2: model: a single value where keys and values belong | "
            "write `key: value` lines below it, indented");
  EXPECT_EQ(error_of(run_with("data: {mixture: [1]}\n")),
            "run.yaml:2: data.mixture: a list where keys and values belong | "
            "write `key: value` lines below it, indented");
  EXPECT_EQ(error_of(run_with("data: {mixture: {a: [1]}}\n")),
            "run.yaml:2: data.mixture.a: a list where a single value belongs | "
            "write one value, without brackets or keys");
  EXPECT_EQ(error_of(run_with("optimizer: {betas: 0.9}\n")),
            "run.yaml:2: optimizer.betas: a single value where a list belongs | write [a, b]");
  EXPECT_EQ(
      error_of(run_with("optimizer: {betas: [0.9, [1]]}\n")),
      "run.yaml:2: optimizer.betas: the list's elements must be single values | write [a, b]");
}

TEST(ConfigOverrides, MustBeKeyEqualsValue) {
  for (const char* text : {"seed", "=5", ""}) {
    EXPECT_EQ(error_of(run_with(""), {text}),
              "--set " + std::string(text) +
                  ": not of the form KEY=VALUE | such as --set train.steps=100");
  }
}

TEST(ConfigValues, AllWrongOnesAreListedAtOnce) {
  EXPECT_EQ(
      error_of("name: ''\nseed: -1\nmodel:\n  hidden_size: 1.5\n  tie_embeddings: yes\n"
               "log: {every: 500}\n",
               {"train.micro_batch=0"}),
      "run.yaml:2: seed: -1 is negative\n"
      "run.yaml:4: model.hidden_size: 1.5 is not a whole number, such as 1048576, 1.5M or 150B\n"
      "run.yaml:5: model.tie_embeddings: yes is neither true nor false\n"
      "run.yaml:6: log.every: 500 has no unit; write 500steps, 500tokens, 500s, 500min, 500h or "
      "500%\n"
      "run.yaml:1: name: \"\" is empty\n"
      "--set train.micro_batch=0: train.micro_batch: 0 is not 1 to 1,048,576 | seed: use 0 or "
      "more; "
      "model.hidden_size: use 1 to 1,048,576; model.tie_embeddings: write true or false; "
      "log.every: "
      "write it like 500steps; the units here are steps, tokens, time (s, min, h), never; name: "
      "give it a name; train.micro_batch: use 1 or more");
}

TEST(ConfigValues, OfEveryTypeAreChecked) {
  const auto text = [](const std::string& section, const std::string& field) {
    return error_of(run_with(section + ": {" + field + "}"));
  };
  EXPECT_EQ(text("model", "hidden_size: 99999999999999999999"),
            "run.yaml:2: model.hidden_size: 99999999999999999999 is too large for a 64-bit whole "
            "number | use 1 to 1,048,576");
  EXPECT_EQ(text("model", "hidden_size: 2M"),
            "run.yaml:2: model.hidden_size: 2000000 is not 1 to 1,048,576 | use 1,048,576 or less");
  EXPECT_EQ(
      text("model", "num_kv_heads: some"),
      "run.yaml:2: model.num_kv_heads: some is not a whole number, such as 1048576, 1.5M or 150B "
      "| use auto, or 1 to 65,536");
  for (const char* number : {".nan", "nan", ".inf", "-inf", "inf", "0.1x", "''"}) {
    const std::string shown_number = std::string(number) == "''" ? "\"\"" : number;
    EXPECT_EQ(text("schedule", "peak: " + std::string(number)),
              "run.yaml:2: schedule.peak: " + shown_number +
                  " is not a finite number, such as 0.1 or 2.0e-4 | use a number above 0 and at "
                  "most 100");
  }
  EXPECT_EQ(text("schedule", "peak: 1e999"),
            "run.yaml:2: schedule.peak: 1e999 is out of the range of a 64-bit float | use a number "
            "above 0 and at most 100");
  EXPECT_EQ(text("schedule", "peak: 1e30"),
            "run.yaml:2: schedule.peak: 1e+30 is not above 0 and at most 100 | use 100 or less");
  EXPECT_EQ(text("schedule", "peak: 0"),
            "run.yaml:2: schedule.peak: 0.0 is not above 0 and at most 100 | use more than 0");
  EXPECT_EQ(
      text("schedule", "final_fraction: 1.1"),
      "run.yaml:2: schedule.final_fraction: 1.1 is not at least 0 and at most 1 | use 1 or less");
  EXPECT_EQ(text("schedule", "kind: cosin"),
            "run.yaml:2: schedule.kind: cosin is not one of cosine, linear, constant, multi_step, "
            "warmup_stable_decay | did you mean cosine?");
  EXPECT_EQ(text("optimizer", "kind: adam"),
            "run.yaml:2: optimizer.kind: adam is not adamw | did you mean adamw?");
  EXPECT_EQ(
      text("optimizer", "betas: [0.9]"),
      "run.yaml:2: optimizer.betas: [0.9] is not a list of 2 numbers, each at least 0 and below 1 "
      "| write 2 numbers in brackets");
  EXPECT_EQ(
      text("optimizer", "betas: [0.9, 1]"),
      "run.yaml:2: optimizer.betas: [0.9, 1.0] is not a list of 2 numbers, each at least 0 and "
      "below 1 | use less than 1");
  EXPECT_EQ(
      text("data", "mixture: {a: -1}"),
      "run.yaml:2: data.mixture.a: -1.0 is not at least 0 and at most 1000000 | use 0 or more");
  EXPECT_EQ(text("parallel", "zero: 4"),
            "run.yaml:2: parallel.zero: 4 is not 0 to 3 | use 3 or less");
  EXPECT_EQ(text("parallel", "slice: 2"), "run.yaml:2: parallel.slice: 2 is not 1 | use 1");
  EXPECT_EQ(text("schedule", "warmup: 30min"),
            "run.yaml:2: schedule.warmup: 30min is in a unit that has no meaning here | "
            "use steps, tokens, %, never");
  EXPECT_EQ(text("log", "every: 5%"),
            "run.yaml:2: log.every: 5% is in a unit that has no meaning here | "
            "use steps, tokens, time (s, min, h), never");
  EXPECT_EQ(
      text("model", "feed_forward: {smear: {expert_dropout: 1}}"),
      "run.yaml:2: model.feed_forward.smear.expert_dropout: 1.0 is not at least 0 and below 1 | "
      "use less than 1");
}

TEST(ConfigValues, LowerBoundsLeaveAWorkingModel) {
  EXPECT_EQ(error_of(run_with("model: {rope_theta: 0.5}")),
            "run.yaml:2: model.rope_theta: 0.5 is not at least 1 and at most 1000000000000 | "
            "use 1 or more");
  EXPECT_EQ(error_of(run_with("model: {init_std: 0}")),
            "run.yaml:2: model.init_std: 0.0 is not at least 1e-08 and at most 100 | "
            "use 1e-08 or more");
  EXPECT_EQ(error_of(run_with("model: {norm_eps: -1}")),
            "run.yaml:2: model.norm_eps: -1.0 is not at least 0 and at most 1 | use 0 or more");
  EXPECT_EQ(error_of(run_with("model: {rope_theta: 1, init_std: 1e-8, norm_eps: 0}")), "");
}

TEST(ConfigValues, EveryWrongOneHasAFix) {
  EXPECT_EQ(error_of(run_with("schedule: {warmup: 101%}")),
            "run.yaml:2: schedule.warmup: 101% is more than 100% | use 0% to 100%");
  EXPECT_EQ(error_of(run_with("optimizer: {kind: zzzz}")),
            "run.yaml:2: optimizer.kind: zzzz is not adamw | use adamw");
  EXPECT_EQ(error_of(run_with("model: {qk_norm: zzzz}")),
            "run.yaml:2: model.qk_norm: zzzz is not one of none, full, head | use one of them");
  EXPECT_EQ(error_of(run_with("log: {peak_flops: 1e30}")),
            "run.yaml:2: log.peak_flops: 1e+30 is not auto, or above 0 and at most 1e+21 | "
            "use auto, or 1e+21 or less");
}

TEST(ConfigValues, ARunsNameIsOneFolder) {
  for (const char* name : {"a/b", "..", "/a"}) {
    EXPECT_EQ(error_of("train: {steps: 1}\nname: " + std::string(name)),
              "run.yaml:2: name: " + std::string(name[0] == '.' ? "\"..\"" : name) +
                  " is a path, not the name of a folder | use a plain name; output says where its "
                  "folder is");
  }
}

TEST(ConfigValues, LongOrOddOnesAreShownShort) {
  const std::string error = error_of(run_with("seed: " + std::string(5000, 'x')));
  EXPECT_LT(error.size(), 300u);
  EXPECT_EQ(error_of(run_with("seed: \"a\\nb\"")),
            "run.yaml:2: seed: a\\x0ab is not a whole number, such as 1048576, 1.5M or 150B | "
            "use 0 or more");
  EXPECT_EQ(error_of(run_with("output: \"a\\nb\"")),
            "run.yaml:2: output: \"a\\x0ab\" contains control characters | remove them");
}

TEST(ConfigYaml, BrokenTextIsRefusedWithLineAndColumn) {
  EXPECT_EQ(error_of("a: 1\nseed: [1, 2\n"),
            "run.yaml:3:1: broken YAML: end of sequence flow not found | "
            "check indentation, quotes and brackets there");
  EXPECT_EQ(error_of("seed: b: c\n"),
            "run.yaml:1:8: broken YAML: illegal map value | "
            "check indentation, quotes and brackets there");
  EXPECT_EQ(error_of("train:\n\tsteps: 1\n"),
            "run.yaml:2:1: a tab as indentation; YAML wants spaces | replace tabs with spaces");
  EXPECT_EQ(error_of("seed: 1\nname: \xFF\n"),
            "run.yaml:2:7: not UTF-8 text | save the file as UTF-8");
  EXPECT_EQ(error_of("seed: 1\n\x04"), "run.yaml:2:1: control character 0x04 | remove it");
  EXPECT_EQ(error_of(std::string("seed: 1\0", 8)),
            "run.yaml:1:8: control character 0x00 | remove it");
  EXPECT_EQ(error_of(""), error_of("# only a comment\n"));
  EXPECT_EQ(error_of("- a\n"),
            "run.yaml: a list, where a configuration is keys and values | "
            "write `key: value` lines; docs/config.md lists the keys");
  const std::string two =
      "run.yaml: more than one YAML document, or a stray comma | a configuration is one "
      "document of `key: value` lines, without `---` in between";
  EXPECT_EQ(error_of("seed: 1\n---\nseed: 2\n"), two);
  EXPECT_EQ(error_of(","), two);  // yaml-cpp's LoadAll would not come back from this
  EXPECT_EQ(error_of("seed: *x\n"),
            "run.yaml:1:7: broken YAML: the referenced anchor is not defined | "
            "check indentation, quotes and brackets there");
  EXPECT_EQ(error_of(run_with(""), {"seed=[1"}),
            "--set seed=[1:1:1: broken YAML: end of sequence flow not found | "
            "check indentation, quotes and brackets there");
}

TEST(ConfigYaml, NestingWithoutEndIsRefused) {
  EXPECT_NE(error_of(std::string(100'000, '[')).find("broken YAML"), std::string::npos);
  EXPECT_NE(error_of(std::string(100'000, '{')).find("broken YAML"), std::string::npos);
  EXPECT_EQ(
      error_of("optimizer: {betas: &x [*x, 1]}"),
      "run.yaml:1: optimizer.betas: the list's elements must be single values | write [a, b]");
}

TEST(ConfigYaml, ACyclicSectionEnds) {
  const std::string error = error_of("model: &m {feed_forward: *m}\n");
  EXPECT_EQ(error.substr(0, error.find(" | ")),
            "run.yaml:1: model.feed_forward.feed_forward: unknown key");
}

}  // namespace
}  // namespace lorikeet
