#pragma once
#include "lorikeet/data/manifest.h"
#include "lorikeet/data/shard.h"

namespace lorikeet {

/// Chooses what is held out: texts whose hash is below fraction * 2^64, and in a domain that would
/// have fewer than eight, the lowest further hashes, up to a tenth of the domain's different texts
/// (but one where there are two or more).
HeldOutRule choose_held_out(const std::vector<Shard>& shards, double fraction);

/// Documents and tokens of each domain on both sides.
std::vector<DomainRecord> count_domains(const std::vector<Shard>& shards, const HeldOutRule& rule);

}  // namespace lorikeet
