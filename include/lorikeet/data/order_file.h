#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lorikeet/data/dataset.h"

namespace lorikeet {

/// Where `data.order: similarity` is looked for, next to the shards.
inline constexpr char kSimilarityOrderFile[] = "similarity.order";

/// Writes an order of the documents (docs/data.md), atomically. It belongs to the dataset with this
/// fingerprint alone.
/// @param dropped  training documents that are left out on purpose; no other may be missing
void write_order_file(const std::string& path, std::span<const DocumentNumber> documents,
                      uint64_t fingerprint, std::span<const DocumentNumber> dropped = {});

/// Reads an order: every training document of the dataset once, but for those that the file names
/// as dropped, none that is held out.
/// @throws Error(kData) for a damaged file, one for other data, or an order that breaks the rule
std::vector<DocumentNumber> read_order_file(const std::string& path, const Dataset& dataset);

}  // namespace lorikeet
