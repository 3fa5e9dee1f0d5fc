#pragma once
#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <vector>

#include "lorikeet/model/language_model.h"
#include "lorikeet/parallel/sharded_parameters.h"
#include "lorikeet/parallel/world.h"

namespace lorikeet {

/// What the routers did since the last report, layer by layer. Sums stay on the device until
/// report().
class RoutingStatistics {
 public:
  /// Adds one batch's records (one a layer); dense layers' are passed over.
  void add(const std::vector<RoutingRecord>& routing);

  /// Then starts over. Null without records. Lists have one entry a layer:
  ///   entropy         mean over segments of -sum e ln e, in nats; ln E is uniform
  ///   max_weight      largest routing weight met
  ///   mean_weight     [E] mean routing weight of each expert
  ///   active_experts  experts whose weight exceeded 2/E at least once (Lory's measure of use)
  nlohmann::json report();

  /// Moves what the other ranks have added to the first. On all ranks together, which have added
  /// records alike.
  void fold_into_first(World& world);
  /// Drops what was added.
  void forget();

  /// What was added since the last report, as JSON.
  std::string state() const;
  void load_state(const std::string& json);

 private:
  torch::Tensor sum_LE_, max_LE_, entropy_L_;
  int64_t num_segments_ = 0;
};

/// Largest Frobenius distance between two experts of each layer, over all three matrices; empty for
/// a dense model. Zero means that copied experts have not come apart.
std::vector<double> largest_expert_distances(const LanguageModelImpl& model);
/// L2 norm of each layer's router gradient, of all ranks together; empty for a dense model.
std::vector<double> router_gradient_norms(const ShardedParameters& parameters, World& world);

}  // namespace lorikeet
