#include "lorikeet/train/routing_statistics.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "lorikeet/model/parameter_units.h"
#include "tests/model/test_models.h"

namespace lorikeet {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

RoutingRecord record(std::vector<std::vector<float>> rows) {
  RoutingRecord result;
  std::vector<torch::Tensor> tensors;
  for (const auto& row : rows) tensors.push_back(torch::tensor(row));
  result.weights_GE = torch::stack(tensors);
  return result;
}

double entropy(const std::vector<double>& weights) {
  double sum = 0;
  for (const double e : weights) sum -= e > 0 ? e * std::log(e) : 0;
  return sum;
}

TEST(RoutingStatistics, AreThoseWorkedOutByHand) {
  RoutingStatistics statistics;
  EXPECT_TRUE(statistics.report().is_null());
  // Layer 0 of 4 experts over three segments in two batches; layer 1 uniform; a dense one between.
  const RoutingRecord uniform1 = record({{.25f, .25f, .25f, .25f}});
  statistics.add({record({{.7f, .1f, .1f, .1f}, {.1f, .6f, .2f, .1f}}), RoutingRecord{},
                  record({{.25f, .25f, .25f, .25f}, {.25f, .25f, .25f, .25f}})});
  statistics.add({record({{1.f, 0.f, 0.f, 0.f}}), RoutingRecord{}, uniform1});
  const nlohmann::json report = statistics.report();
  const double mean0 = (entropy({.7, .1, .1, .1}) + entropy({.1, .6, .2, .1})) / 3;
  EXPECT_THAT(report.at("entropy").get<std::vector<double>>(),
              ElementsAre(DoubleNear(mean0, 1e-6), DoubleNear(std::log(4), 1e-6)));
  EXPECT_THAT(report.at("max_weight").get<std::vector<double>>(),
              ElementsAre(DoubleNear(1, 1e-6), DoubleNear(.25, 1e-6)));
  EXPECT_THAT(report.at("mean_weight")[0].get<std::vector<double>>(),
              ElementsAre(DoubleNear(.6, 1e-6), DoubleNear(.7 / 3, 1e-6), DoubleNear(.1, 1e-6),
                          DoubleNear(.2 / 3, 1e-6)));
  EXPECT_THAT(report.at("active_experts").get<std::vector<int64_t>>(), ElementsAre(2, 0))
      << "above 2/E = 0.5 at least once";
  EXPECT_TRUE(statistics.report().is_null()) << "a report starts over";
}

TEST(RoutingStatistics, DenseModelsHaveNone) {
  RoutingStatistics statistics;
  statistics.add({RoutingRecord{}, RoutingRecord{}});
  EXPECT_TRUE(statistics.report().is_null());
  EXPECT_EQ(statistics.state(), "{}");
}

TEST(RoutingStatistics, GoOnFromTheirStateToTheLastBit) {
  torch::manual_seed(1);
  const auto batch = [] {
    return std::vector<RoutingRecord>{{torch::rand({5, 4}).softmax(-1)},
                                      {torch::rand({5, 4}).softmax(-1)}};
  };
  const auto first = batch(), second = batch();
  RoutingStatistics whole, before, after;
  whole.add(first);
  before.add(first);
  after.load_state(before.state());
  whole.add(second);
  after.add(second);
  EXPECT_EQ(after.report(), whole.report());
  after.load_state("{}");
  EXPECT_TRUE(after.report().is_null());
}

TEST(RoutingStatistics, WeightsThatAreNotFiniteSurviveAResume) {
  RoutingStatistics statistics, resumed;
  statistics.add({record({{NAN, .5f}})});
  resumed.load_state(statistics.state());
  const nlohmann::json report = nlohmann::json::parse(resumed.report().dump());
  EXPECT_TRUE(report.at("mean_weight")[0][0].is_null());
  EXPECT_EQ(report.at("mean_weight")[0][1], 0.5);
}

TEST(ExpertDistances, AreZeroForCopiesAndTheLargestPairOtherwise) {
  ModelConfig config = testing_models::tiny_config();
  config.feed_forward.expert_init = ExpertInit::kCopied;
  LanguageModel model = testing_models::make_model(config);
  EXPECT_THAT(largest_expert_distances(*model), ElementsAre(0, 0));
  {
    const torch::NoGradGuard no_grad;
    const auto parameters = model->named_parameters();
    // Experts 0 and 1 move apart by 3 + 4 in two matrices, 2 stays with neither.
    parameters["model.layers.1.mlp.experts.gate_proj.weight"][0][0][0] += 3;
    parameters["model.layers.1.mlp.experts.down_proj.weight"][1][2][3] -= 4;
  }
  const std::vector<double> distances = largest_expert_distances(*model);
  EXPECT_EQ(distances[0], 0);
  EXPECT_NEAR(distances[1], 5, 1e-5);
}

TEST(RouterGradientNorms, AreThoseOfTheGradients) {
  const auto world = World::single(torch::kCPU);
  const auto norms = [&](const LanguageModel& model, double gradient) {
    ShardedParameters parameters(parameter_units(*model), 0, world->mesh());
    const auto place = parameters.place_of("model.layers.1.self_attn.q_proj.weight");
    EXPECT_EQ(place.unit, 2);
    for (const ParameterPiece& piece : parameters.pieces()) {
      if (piece.name != "model.layers.1.mlp.router.weight") continue;
      parameters.optimizer_tensors()[piece.tensor]
          .values.grad()
          .narrow(0, piece.offset, piece.numel)
          .fill_(gradient);
    }
    return router_gradient_norms(parameters, *world);
  };
  const LanguageModel model = testing_models::make_model(testing_models::tiny_config());
  EXPECT_THAT(norms(model, 0.5), ElementsAre(0, DoubleNear(0.5 * std::sqrt(3.0 * 16), 1e-6)));
  const LanguageModel dense =
      testing_models::make_model(testing_models::tiny_config(FeedForwardKind::kDense));
  EXPECT_THAT(norms(dense, 0.5), IsEmpty());
  EXPECT_THAT(largest_expert_distances(*dense), IsEmpty());
}

}  // namespace
}  // namespace lorikeet
