#pragma once
// What the loop nest of merged_ffn's backward (backward.cpp) and its first half share.
//
// D model, F feed-forward width, W tokens with padding.
#include "backward_owner.h"
#include "epilogue.h"

namespace lorikeet::ops::cpu {

template <class T>
struct Backward {
  OwnerJob<T> owner;
  ExpertMatrix down;
  int64_t F;
  SavedProducts saved;
};

/// One task of the first half: features f0 + begin .. + rows, for a chunk's tokens.
template <class T>
int64_t hidden_scratch(const Plan& plan, int64_t D);
template <class T>
void hidden_gradients(const Backward<T>& job, int64_t f0, int64_t begin, int64_t rows,
                      const MergeChunk& chunk, Scratch scratch);

}  // namespace lorikeet::ops::cpu
