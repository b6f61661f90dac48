// Keys and values of every slot of one replica. The whole context of every slot is reserved as address space; pages
// are committed when a position is first written, so short stories cost only what they use.
#pragma once

#include "config.h"
#include "memory.h"

namespace tinylm::engine {

class KvCache {
 public:
  KvCache(const Config& config, const kernels::KernelTable& table, kernels::KvType type, int64_t slots);

  kernels::KvView view(int64_t slot, int64_t layer, int64_t kv_head) const {
    uint8_t* at = pages_.data() + static_cast<size_t>((slot * layers_ + layer) * kv_heads_ + kv_head) * (k_bytes_ + v_bytes_);
    return {type_, head_dim_, at, at + k_bytes_};
  }
  // Copies positions 0..count of slot `from` to slot `to`.
  void copy(int64_t from, int64_t to, int64_t count) const;
  size_t bytes() const { return pages_.size(); }  // reserved

 private:
  const kernels::KernelTable& table_;
  kernels::KvType type_;
  int64_t layers_, kv_heads_, head_dim_;
  size_t k_bytes_, v_bytes_;  // of one slot, layer and head
  Pages pages_;
};

}  // namespace tinylm::engine
