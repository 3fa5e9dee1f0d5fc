// B batch, L tokens a row, G segments of the batch, T tokens a segment.
#include "lorikeet/model/sequence_layout.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "lorikeet/ops/to_device.h"

namespace lorikeet {

namespace {

void check_documents(const std::vector<DocumentLengths>& documents, int64_t batch, int64_t length) {
  if (documents.empty()) return;
  if (static_cast<int64_t>(documents.size()) != batch) {
    throw std::invalid_argument(
        fmt::format("document lengths for {} rows, but {} rows", documents.size(), batch));
  }
  for (const DocumentLengths& row : documents) {
    const bool positive = std::all_of(row.begin(), row.end(), [](int64_t n) { return n > 0; });
    if (!positive || std::accumulate(row.begin(), row.end(), int64_t{0}) != length) {
      throw std::invalid_argument(
          fmt::format("document lengths {} must be positive and add up to {} tokens", row, length));
    }
  }
}

/// Adds the segments of one unit (a context or a document of `length` tokens). A decision that
/// serves many tokens is one segment, so that it is merged once: all of the unit for sequence
/// routing, all behind the first segment for prefix routing.
void append_unit(const FeedForwardConfig& config, int64_t length, SegmentLayout& layout,
                 std::vector<int64_t>& first_of_unit) {
  const int64_t first = layout.num_segments();
  for (int64_t begin = 0; begin < length;) {
    int64_t end = std::min(begin + config.segment_length, length);
    if (config.routing == Routing::kSequence) end = length;
    if (config.routing == Routing::kPrefix && begin > 0) end = length;
    layout.offsets.push_back(layout.offsets.back() + end - begin);
    layout.is_first.push_back(begin == 0);
    layout.sources.push_back(0);
    first_of_unit.push_back(first);
    begin = end;
  }
}

/// The candidate row (see SegmentLayout) that routes segment g.
int64_t source_row(const FeedForwardConfig& config, const SegmentLayout& layout, int64_t g,
                   int64_t first_of_unit) {
  const int64_t num_segments = layout.num_segments();
  if (config.routing == Routing::kSequence) return g;
  if (!layout.is_first[g]) return config.routing == Routing::kPrefix ? first_of_unit : g - 1;
  return config.first_segment == FirstSegment::kSelfStopGradient ? num_segments + g
                                                                 : 2 * num_segments;
}

}  // namespace

SegmentLayout make_segment_layout(const FeedForwardConfig& config, int64_t batch, int64_t length,
                                  const std::vector<DocumentLengths>& documents) {
  check_documents(documents, batch, length);
  SegmentLayout layout;
  layout.offsets.push_back(0);
  std::vector<int64_t> first_of_unit;
  for (int64_t row = 0; row < batch; ++row) {
    if (config.segment_scope == Scope::kDocument && !documents.empty()) {
      for (const int64_t document : documents[row]) {
        append_unit(config, document, layout, first_of_unit);
      }
    } else {
      append_unit(config, length, layout, first_of_unit);
    }
  }
  for (int64_t g = 0; g < layout.num_segments(); ++g) {
    layout.sources[g] = source_row(config, layout, g, first_of_unit[g]);
  }
  return layout;
}

SequenceLayout make_sequence_layout(const ModelConfig& config, int64_t batch, int64_t length,
                                    const std::vector<DocumentLengths>& documents,
                                    at::Device device) {
  check_documents(documents, batch, length);
  SequenceLayout layout;
  layout.batch = batch;
  layout.length = length;
  if (config.is_merged()) {
    layout.segments = make_segment_layout(config.feed_forward, batch, length, documents);
    layout.sources_G = ops::to_device(at::tensor(layout.segments.sources, at::kLong), device);
  }
  const bool several = std::any_of(documents.begin(), documents.end(),
                                   [](const DocumentLengths& row) { return row.size() > 1; });
  std::vector<at::Tensor> positions;
  if (config.attention_scope == Scope::kDocument && several) {
    layout.attention_spans = documents;
    for (const DocumentLengths& row : documents) {
      for (const int64_t document : row) positions.push_back(at::arange(document, at::kLong));
    }
  } else {
    positions.push_back(at::arange(length, at::kLong));
  }
  layout.positions_L = ops::to_device(at::cat(positions), device);
  layout.rope = ops::make_rope_table(layout.positions_L, config.head_size(), config.rope_theta);
  if (!layout.attends_whole_rows()) {  // [B*L, H/2] -> [B, L, H/2]: each row has its own
    for (at::Tensor* table : {&layout.rope.cos, &layout.rope.sin}) {
      *table = table->view({batch, length, -1});
    }
  }
  return layout;
}

}  // namespace lorikeet
