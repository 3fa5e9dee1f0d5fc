// configs/ablation/: one baseline, and files that differ from it in one setting each.
#include <filesystem>
#include <map>

#include "config_testing.h"

namespace lorikeet {
namespace {

using Settings = std::map<std::string, std::string>;

const std::string kFolder = "configs/ablation/";

/// A layer with experts that is not there any more takes its keys with it.
const std::map<std::string, Settings> kDifferences = {
    {"causal", {}},
    {"dense", {{"model.feed_forward.kind", "dense"}}},
    {"dense_similarity", {{"model.feed_forward.kind", "dense"}, {"data.order", "similarity"}}},
    {"similarity", {{"data.order", "similarity"}}},
    {"prefix", {{"model.feed_forward.routing", "prefix"}}},
    {"experts_1", {{"model.feed_forward.num_experts", "1"}}},
    {"experts_2", {{"model.feed_forward.num_experts", "2"}}},
    {"experts_4", {{"model.feed_forward.num_experts", "4"}}},
    {"experts_16", {{"model.feed_forward.num_experts", "16"}}},
    {"experts_32", {{"model.feed_forward.num_experts", "32"}}},
    {"segment_64", {{"model.feed_forward.segment_length", "64"}}},
    {"segment_256", {{"model.feed_forward.segment_length", "256"}}},
    {"segment_512", {{"model.feed_forward.segment_length", "512"}}},
    {"first_uniform", {{"model.feed_forward.first_segment", "uniform"}}},
    {"first_learned", {{"model.feed_forward.first_segment", "learned"}}},
    {"init_copied", {{"model.feed_forward.expert_init", "copied"}}},
    {"init_independent", {{"model.feed_forward.expert_init", "independent"}}},
    {"dense_warmup", {{"model.feed_forward.expert_init", "copied"}, {"train.dense_warmup", "5%"}}},
};

Settings settings_of(const std::string& name) {
  return config_entries(load_run_config(in_source(kFolder + name + ".yaml")));
}

Settings differences(const Settings& settings, const Settings& baseline) {
  Settings found;
  for (const auto& [key, value] : settings) {
    const auto other = baseline.find(key);
    if (key != "name" && (other == baseline.end() || other->second != value)) found[key] = value;
  }
  return found;
}

TEST(AblationConfigs, DifferFromTheBaselineInTheirSettingAlone) {
  const Settings baseline = settings_of("causal");
  for (const auto& [name, expected] : kDifferences) {
    Settings found = differences(settings_of(name), baseline);
    if (expected.contains("model.feed_forward.kind")) {
      std::erase_if(found, [](const auto& entry) {
        return entry.first.starts_with("model.feed_forward.") &&
               entry.first != "model.feed_forward.kind";
      });
    }
    EXPECT_EQ(found, expected) << name;
    EXPECT_EQ(settings_of(name).at("name"), "ablation_" + name);
  }
}

TEST(AblationConfigs, AreAllKnownHere) {
  for (const auto& entry : std::filesystem::directory_iterator(in_source(kFolder))) {
    EXPECT_TRUE(kDifferences.contains(entry.path().stem().string())) << entry.path();
  }
}

}  // namespace
}  // namespace lorikeet
