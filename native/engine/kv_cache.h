// Keys and values of every slot of one replica.
//
// A slot holds only as many positions as its request can reach, and the slots lie close together, so that short texts
// share few huge pages (24 GB/s with small pages, 55 and more with huge ones, out of 8 MB, measured 2026-11).
#pragma once

#include <vector>

#include "config.h"
#include "memory.h"

namespace tinylm::engine {

class KvCache {
 public:
  KvCache(const Config& config, const kernels::KernelTable& table, kernels::KvType type, int64_t slots);

  // Positions that a request of `positions` tokens at most gets; what a slot holds survives only if this stays the
  // same.
  int64_t capacity_for(int64_t positions) const;
  int64_t capacity(int64_t slot) const { return slots_[static_cast<size_t>(slot)].capacity; }
  void set_capacity(int64_t slot, int64_t capacity);

  kernels::KvView view(int64_t slot, int64_t layer, int64_t first_head, int64_t heads) const {
    const Slot& at = slots_[static_cast<size_t>(slot)];
    const size_t step = at.k_bytes + at.v_bytes;
    uint8_t* k = at.data + static_cast<size_t>(layer * kv_heads_ + first_head) * step;
    return {type_, head_dim_, k, k + at.k_bytes, heads, static_cast<int64_t>(step)};
  }
  // Copies positions 0..count of slot `from` to slot `to`.
  void copy(int64_t from, int64_t to, int64_t count) const;
  size_t bytes() const { return pages_.size() / 2; }  // of whole contexts in all slots; less is committed

 private:
  struct Slot {
    size_t begin = 0, end = 0;  // bytes of the arena; empty at first
    uint8_t* data = nullptr;
    int64_t capacity = 0;
    size_t k_bytes = 0, v_bytes = 0;  // of one layer and head
  };

  size_t first_gap(size_t bytes) const;

  const kernels::KernelTable& table_;
  const kernels::KvType type_;
  const int64_t context_, layers_, kv_heads_, head_dim_;
  Pages pages_;
  std::vector<Slot> slots_;
};

}  // namespace tinylm::engine
