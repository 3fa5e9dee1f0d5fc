#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "lorikeet/checkpoint/checkpoint.h"
#include "lorikeet/core/file.h"
#include "manifest.h"

/// One checkpoint's folder: what CheckpointStore writes and reads.
namespace lorikeet::checkpoint {

/// Bytes that writing one rank's part takes on disk, rounded up.
uint64_t bytes_needed(const CheckpointContent& content);
/// Writes and syncs one rank's pieces, which are contiguous and on the CPU, into `folder`.
/// @return part_text() of it, for write_manifest
std::string write_part(const std::string& folder, int rank, const CheckpointContent& content);
/// write_part(), after which the pieces are views of the written file, whose name is gone: its
/// space comes back with the last of them.
std::string move_part(const std::string& folder, int rank, CheckpointContent& content);
/// @throws Error naming what is needed and what the disk of `path` has left
void require_space(const std::string& path, uint64_t needed);
/// Makes the folder complete, once all parts are in it: states, manifest, and its name. The counts,
/// states and texts are those of `content`.
/// @throws Error(kInternal) where the parts leave out or repeat elements
void write_manifest(AtomicFolder& folder, const CheckpointContent& content,
                    const std::vector<std::string>& parts);
/// Reads it and verifies every byte of what `is_wanted`.
CheckpointContent read_folder(const std::string& path, const PieceFilter& is_wanted);
/// Whether the manifest is right and all files have their sizes, without reading the tensors.
bool looks_whole(const std::string& path);

}  // namespace lorikeet::checkpoint
