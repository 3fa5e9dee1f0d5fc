#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "lorikeet/config/model_config.h"
#include "lorikeet/ops/rope.h"

namespace lorikeet {

/// Documents that share a row of a batch: their lengths in tokens, which add up to the row's
/// length.
using DocumentLengths = std::vector<int64_t>;

/// How the B*L tokens of a batch fall into segments, and from where each segment takes its routing
/// weights.
///
/// Every segment's weights are one row of the candidates [2G + 1, E] that MergedFeedForward makes:
/// row g the decision of segment g itself, row G + g the same behind a stop-gradient, row 2G the
/// prior (uniform or learned). So each routing kind is one table of row numbers, and nothing else.
struct SegmentLayout {
  std::vector<int64_t> offsets;  ///< G+1 token numbers, from 0 to B*L
  std::vector<int64_t> sources;  ///< G candidate rows
  std::vector<bool> is_first;    ///< G: no earlier segment in the same context or document

  int64_t num_segments() const { return static_cast<int64_t>(sources.size()); }
};

/// The layout of a batch: made once, used by every layer.
struct SequenceLayout {
  int64_t batch = 0;   ///< B rows
  int64_t length = 0;  ///< L tokens in each
  std::vector<DocumentLengths>
      attention_spans;     ///< per row: runs of tokens that may see each other
  SegmentLayout segments;  ///< empty for a dense model
  at::Tensor sources_G;    ///< segments.sources on the model's device
  at::Tensor positions_L;  ///< [L], or [B*L] where positions restart within rows
  ops::RopeTable rope;

  bool attends_whole_rows() const { return attention_spans.empty(); }
};

/// @param documents one list a row, or empty: every row is one document
/// @throws std::invalid_argument if lengths are not positive or do not add up to `length`
SegmentLayout make_segment_layout(const FeedForwardConfig& config, int64_t batch, int64_t length,
                                  const std::vector<DocumentLengths>& documents);
SequenceLayout make_sequence_layout(const ModelConfig& config, int64_t batch, int64_t length,
                                    const std::vector<DocumentLengths>& documents,
                                    at::Device device);

}  // namespace lorikeet
