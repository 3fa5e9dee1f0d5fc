#pragma once
#include <cstdint>
#include <string>

#include "lorikeet/checkpoint/checkpoint.h"
#include "manifest.h"

/// One checkpoint's folder: what CheckpointStore writes and reads.
namespace lorikeet::checkpoint {

/// Bytes that writing `content` takes on disk, rounded up.
uint64_t bytes_needed(const CheckpointContent& content);
/// Writes the whole folder or leaves what was there. Tensors are contiguous and on the CPU.
void write_folder(const std::string& path, const CheckpointContent& content);
/// Reads it and verifies every byte.
CheckpointContent read_folder(const std::string& path);
/// Whether the manifest is right and all files have their sizes, without reading the tensors.
bool looks_whole(const std::string& path);

}  // namespace lorikeet::checkpoint
