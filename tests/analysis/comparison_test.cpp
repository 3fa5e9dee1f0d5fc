#include "lorikeet/analysis/comparison.h"

#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "lorikeet/config/load.h"
#include "lorikeet/core/error.h"

namespace lorikeet {
namespace {

using ::testing::HasSubstr;

/// Validated every 100 tokens, which take `seconds`; losses fall from the first to the last.
RunCurve curve_of(const std::vector<double>& losses, double seconds) {
  RunCurve curve;
  for (size_t i = 0; i < losses.size(); ++i) {
    const double count = static_cast<double>(i + 1);
    curve.steps.push_back({count, 100 * count, seconds * count, losses[i] + 1, losses[i] + 2});
    curve.validations.push_back(
        {100 * count, seconds * count, {{"mean", losses[i]}, {"web", losses[i] - 0.5}}});
  }
  return curve;
}

ComparedSetting setting_of(const std::string& name, const std::string& ffn,
                           const std::vector<RunCurve>& curves) {
  ComparedSetting setting;
  setting.name = name;
  setting.config = parse_run_config(
      "{name: " + name +
          ", model: {hidden_size: 8, num_layers: 1, num_heads: 1, ffn_size: 8, vocab_size: 16, "
          "context_length: 16, feed_forward: " +
          ffn + "}, data: {shards: x}, train: {steps: 1, batch_sequences: 1, micro_batch: 1}}",
      name);
  for (size_t i = 0; i < curves.size(); ++i) {
    setting.runs.push_back({static_cast<int64_t>(i + 1), name, "finished", false, curves[i]});
  }
  return setting;
}

const std::string kMerged = "{kind: merged, num_experts: 2, segment_length: 8}";

TEST(RunCurve, ReadsLossesBetweenValidations) {
  const RunCurve curve = curve_of({5, 4, 2}, 10);
  EXPECT_DOUBLE_EQ(curve.loss_at_tokens(150), 4.5);
  EXPECT_DOUBLE_EQ(curve.loss_at_tokens(300), 2);
  EXPECT_DOUBLE_EQ(curve.loss_at_tokens(250, "web"), 2.5);
  EXPECT_DOUBLE_EQ(curve.loss_at_seconds(25), 3);
  EXPECT_TRUE(std::isnan(curve.loss_at_tokens(99)));
  EXPECT_TRUE(std::isnan(curve.loss_at_tokens(301)));
  EXPECT_TRUE(std::isnan(curve.loss_at_tokens(200, "absent")));
}

TEST(RunCurve, FindsTheTokensUntilALoss) {
  const RunCurve curve = curve_of({5, 4, 2}, 10);
  EXPECT_DOUBLE_EQ(curve.tokens_until(3), 250);
  EXPECT_DOUBLE_EQ(curve.tokens_until(4.25), 175);
  EXPECT_DOUBLE_EQ(curve.tokens_until(6), 100);
  EXPECT_TRUE(std::isnan(curve.tokens_until(1.9)));
}

TEST(RunCurve, MeansAreOverTheWindowAlone) {
  const RunCurve curve = curve_of({5, 4, 2}, 10);
  EXPECT_DOUBLE_EQ(curve.training_loss(300, 200), (5 + 3) / 2.0);
  EXPECT_DOUBLE_EQ(curve.first_segment_loss(200, 100), 6);
  EXPECT_TRUE(std::isnan(curve.training_loss(50, 10)));
}

TEST(Comparison, TakesDifferencesSeedBySeed) {
  const auto dense =
      setting_of("dense", "{kind: dense}", {curve_of({5, 4}, 10), curve_of({7, 6}, 10)});
  const auto merged =
      setting_of("merged", kMerged, {curve_of({5, 3.5}, 20), curve_of({7, 5.7}, 20)});
  const Comparison comparison = compare({merged, dense});
  EXPECT_EQ(comparison.reference, "dense");
  EXPECT_EQ(comparison.equal_tokens, 200);
  EXPECT_EQ(comparison.equal_seconds, 20);
  const SettingResult& result = comparison.settings[0];
  EXPECT_DOUBLE_EQ(result.loss.mean, 4.6);
  EXPECT_DOUBLE_EQ(result.loss.high - result.loss.low, 2.2);
  EXPECT_NEAR(result.loss.deviation, 2.2 / std::sqrt(2), 1e-12);
  // Between seeds lie two nats; between settings of one seed hardly any.
  EXPECT_NEAR(result.loss_difference.mean, -0.4, 1e-12);
  EXPECT_NEAR(result.loss_difference.low, -0.5, 1e-12);
  EXPECT_NEAR(result.loss_difference.high, -0.3, 1e-12);
  EXPECT_NEAR(result.difference_at_time.mean, ((5 - 4) + (7 - 6)) / 2.0, 1e-12);
  // 5 - 1.5 t = 4 and 7 - 1.3 t = 6, in hundreds of tokens beyond the first
  EXPECT_NEAR(result.tokens_to_reference.mean, 100 + 100 * (1 / 1.5 + 1 / 1.3) / 2, 1e-9);
  EXPECT_NEAR(result.domain_differences.at("web").mean, -0.4, 1e-12);
  EXPECT_FALSE(result.domains.contains("mean"));
  EXPECT_GT(result.total_parameters, result.active_parameters);
}

TEST(Comparison, ReadsAllWhereTheShortestEnds) {
  const auto a = setting_of("a", "{kind: dense}", {curve_of({5, 4, 3}, 10)});
  const auto b = setting_of("b", kMerged, {curve_of({6, 2}, 10)});
  const Comparison comparison = compare({a, b});
  EXPECT_EQ(comparison.equal_tokens, 200);
  EXPECT_DOUBLE_EQ(comparison.settings[0].loss.mean, 4);
  EXPECT_DOUBLE_EQ(comparison.settings[1].loss_difference.mean, -2);
}

TEST(Comparison, LeavesDivergedRunsAside) {
  auto a = setting_of("a", "{kind: dense}", {curve_of({5, 4}, 10), curve_of({9}, 10)});
  a.runs[1].is_left_out = true;
  a.runs[1].state = "diverged at step 1";
  const auto b = setting_of("b", kMerged, {curve_of({5, 3}, 10), curve_of({5, 1}, 10)});
  const Comparison comparison = compare({a, b});
  EXPECT_EQ(comparison.equal_tokens, 200);
  EXPECT_EQ(comparison.settings[0].loss.count, 1);
  EXPECT_DOUBLE_EQ(comparison.settings[0].loss.mean, 4);
  EXPECT_DOUBLE_EQ(comparison.settings[1].loss.mean, 2);
  EXPECT_EQ(comparison.settings[1].loss_difference.count, 1);  // of the seed that has a partner
  EXPECT_DOUBLE_EQ(comparison.settings[1].loss_difference.mean, -1);
  EXPECT_THAT(to_text(comparison), HasSubstr("a is diverged at step 1, and left out"));
}

TEST(Comparison, NamesWhatDiffersAndWhatWasNeverReached) {
  const auto dense = setting_of("dense", "{kind: dense}", {curve_of({5, 4}, 10)});
  const auto merged = setting_of("merged", kMerged, {curve_of({5, 4.5}, 10)});
  const Comparison comparison = compare({dense, merged});
  EXPECT_THAT(comparison.settings[1].differences,
              ::testing::Contains("model.feed_forward.kind: merged"));
  const std::string text = to_text(comparison);
  EXPECT_THAT(text, HasSubstr("never"));
  EXPECT_THAT(text, HasSubstr("+0.5000"));
  const auto json = nlohmann::json::parse(to_json(comparison, {dense, merged}));
  EXPECT_TRUE(json["settings"][1]["tokens_to_reference"]["mean"].is_null());
  EXPECT_EQ(json["settings"][1]["runs"][0]["validations"].size(), 2U);
}

TEST(Comparison, RefusesWhatCannotBeCompared) {
  const auto dense = setting_of("dense", "{kind: dense}", {curve_of({5, 4}, 10)});
  EXPECT_THROW(compare({dense}, "dens"), Error);
  EXPECT_THROW(compare({setting_of("new", kMerged, {RunCurve{}})}), Error);
  auto diverged = dense;
  diverged.runs[0].is_left_out = true;
  try {
    compare({diverged});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kDiverged);
  }
}

class RunCurveFile : public ::testing::Test {
 protected:
  RunCurveFile() {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~RunCurveFile() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& text) { std::ofstream(folder_ + "/metrics.jsonl") << text; }

  const std::string folder_ = ::testing::TempDir() + "run_curve_" +
                              ::testing::UnitTest::GetInstance()->current_test_info()->name();
};

constexpr char kRows[] =
    R"({"step":2,"tokens":20,"loss":5.0,"first_segment_loss":6.0,"tokens_per_second":10})"
    "\n"
    R"({"step":3,"validation":{"mean":4.5,"web":4.0}})"
    "\n"
    R"({"step":4,"tokens":40,"loss":null,"first_segment_loss":6.0,"tokens_per_second":5})"
    "\n"
    R"({"step":4,"validation":{"mean":4.0,"web":3.0}})"
    "\n"
    R"({"step":4,"validation":{"mean":4.0,"web":3.0}})"
    "\n";

TEST_F(RunCurveFile, PlacesValidationsBetweenSteps) {
  write(kRows);
  const RunCurve curve = read_run_curve(folder_);
  ASSERT_EQ(curve.steps.size(), 2U);
  EXPECT_DOUBLE_EQ(curve.seconds(), 2 + 4);
  EXPECT_TRUE(std::isnan(curve.steps[1].loss));
  ASSERT_EQ(curve.validations.size(), 2U) << "the last one is there twice";
  EXPECT_DOUBLE_EQ(curve.validations[0].tokens, 30);
  EXPECT_DOUBLE_EQ(curve.validations[0].seconds, 4);
  EXPECT_DOUBLE_EQ(curve.loss_at_tokens(35), 4.25);
}

TEST_F(RunCurveFile, FollowsABatchThatChangesAndRowsThatAreFarApart) {
  write(R"({"step":2,"tokens":20,"loss":5.0,"tokens_per_second":10})"
        "\n"
        R"({"step":2,"validation":{"mean":5.0}})"
        "\n"
        R"({"step":4,"tokens":60,"loss":4.0,"tokens_per_second":10})"
        "\n"
        R"({"step":5,"validation":{"mean":4.0}})"
        "\n"
        R"({"step":6,"validation":{}})"
        "\n");
  const RunCurve curve = read_run_curve(folder_);
  ASSERT_EQ(curve.validations.size(), 2U);
  EXPECT_DOUBLE_EQ(curve.validations[0].tokens, 20);
  EXPECT_DOUBLE_EQ(curve.validations[1].tokens, 80);
  EXPECT_DOUBLE_EQ(curve.validations[1].seconds, 8);
}

TEST_F(RunCurveFile, ForgivesTheLineThatWasBeingWrittenAlone) {
  write(std::string(kRows) + R"({"step":6,"tok)");
  EXPECT_EQ(read_run_curve(folder_).steps.size(), 2U);
  write(R"({"step":6,"tok)" + std::string("\n") + kRows);
  try {
    read_run_curve(folder_);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCheckpoint);
    EXPECT_THAT(error.what(), HasSubstr("metrics.jsonl:1:"));
  }
}

TEST_F(RunCurveFile, SaysThatThereIsNoRun) { EXPECT_THROW(read_run_curve(folder_), Error); }

}  // namespace
}  // namespace lorikeet
