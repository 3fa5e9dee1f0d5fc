#pragma once
#include <cstdint>

namespace lorikeet {

enum class FeedForwardKind { kDense, kMerged };
/// Which tokens decide a segment's routing weights. See docs/moe.md.
enum class Routing { kCausalSegment, kPrefix, kSequence };
/// What routes the first segment, which has no predecessor.
enum class FirstSegment { kSelfStopGradient, kUniform, kLearned };
enum class Scope { kContext, kDocument };
enum class ExpertInit { kPreserve, kIndependent, kCopied };
enum class Kernel { kAuto, kReference };
/// RMSNorm on queries and keys: over the whole projection (OLMoE) or over each head.
enum class QkNorm { kNone, kFull, kHead };

/// Options of SMEAR (arXiv 2306.03745 and its released code) for `routing: sequence`; all off is
/// the plain form.
struct SmearConfig {
  bool input_norm = false;   ///< LayerNorm (with weight and bias) on the pooled input
  bool router_norm = false;  ///< router rows layer-normalised over hidden_size, times a learned
                             ///< gain (starts at 0.01)
  bool router_bias = false;
  double expert_dropout = 0.0;  ///< in training, drops experts per decision and renormalises

  bool operator==(const SmearConfig&) const = default;
};

struct FeedForwardConfig {
  FeedForwardKind kind = FeedForwardKind::kDense;
  int64_t num_experts = 8;
  int64_t segment_length = 256;
  Routing routing = Routing::kCausalSegment;
  FirstSegment first_segment = FirstSegment::kSelfStopGradient;
  Scope segment_scope = Scope::kContext;
  ExpertInit expert_init = ExpertInit::kPreserve;
  double router_init_std = 0.02;
  Kernel kernel = Kernel::kAuto;
  SmearConfig smear;

  bool operator==(const FeedForwardConfig&) const = default;
};

struct ModelConfig {
  int64_t hidden_size = 512;
  int64_t num_layers = 8;
  int64_t num_heads = 8;
  int64_t num_kv_heads = 0;  ///< 0: as many as num_heads
  int64_t head_dim = 0;      ///< 0: hidden_size / num_heads
  int64_t ffn_size = 1376;
  int64_t vocab_size = 8192;
  int64_t context_length = 1024;
  double rope_theta = 10000.0;
  double norm_eps = 1e-5;
  bool tie_embeddings = false;
  QkNorm qk_norm = QkNorm::kNone;
  Scope attention_scope =
      Scope::kContext;  ///< kDocument: tokens attend within their own document only
  double init_std = 0.02;
  double init_truncation = 0.0;  ///< in standard deviations; 0: not truncated
  FeedForwardConfig feed_forward;

  int64_t kv_heads() const { return num_kv_heads > 0 ? num_kv_heads : num_heads; }
  int64_t head_size() const { return head_dim > 0 ? head_dim : hidden_size / num_heads; }
  bool is_merged() const { return feed_forward.kind == FeedForwardKind::kMerged; }

  bool operator==(const ModelConfig&) const = default;
};

}  // namespace lorikeet
