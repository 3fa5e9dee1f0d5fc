// `lorikeet preflight` on the pretend GPU: what it does on a GPU alone.
#include "tests/train/ranks.h"

namespace lorikeet {
namespace {

using namespace train_testing;

class PretendGpuPreflight : public RanksProgram {
 protected:
  PretendGpuPreflight() {
    command_ = "preflight";
    const auto folder = std::filesystem::path(program()).parent_path();
    ::setenv("LD_LIBRARY_PATH", folder.c_str(), 1);
  }

  /// By check, its verdict. Fails where the last word is no-go.
  std::map<std::string, std::string> verdicts(const std::string& name, const Layout& layout,
                                              const Settings& settings) {
    const Settings all = small_steps() + Settings{"train.device=cuda"} + settings;
    for (Child& rank : start_ranks(name, layout, all)) {
      const Ended ended = rank.wait();
      EXPECT_EQ(ended.code, 0) << ended.out << ended.err;
    }
    std::map<std::string, std::string> found;
    const Json report = Json::parse(read_text(file(name, "preflight.json")));
    for (const Json& check : report.at("checks")) found[check.at("name")] = check.at("verdict");
    return found;
  }
};

TEST_F(PretendGpuPreflight, ComparesOperatorsAndAStepWithTheCpuAndKillsARun) {
  for (const char* precision : {"fp32", "bf16"}) {
    for (const char* scope : {"context", "document"}) {
      auto found = verdicts(
          std::string(precision) + "_" + scope, {},
          {std::string("train.precision=") + precision, "model.feed_forward.first_segment=uniform",
           std::string("model.feed_forward.segment_scope=") + scope});
      for (const char* name : {"operators on cuda:0", "first step, CPU against GPU", "storage",
                               "kill and resume", "memory", "speed"}) {
        EXPECT_EQ(found[name], "go") << name << ", " << precision << ", " << scope;
      }
    }
  }
}

TEST_F(PretendGpuPreflight, OfTwoRanksMeasuresCollectivesByNcclsName) {
  auto found = verdicts("two", {1, 2, 3}, {});
  for (const char* name : {"shard all_reduce", "shard reduce_scatter", "shard all_gather",
                           "first step, CPU against GPU", "kill and resume", "memory"}) {
    EXPECT_EQ(found[name], "go") << name;
  }
}

}  // namespace
}  // namespace lorikeet
