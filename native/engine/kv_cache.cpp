#include "kv_cache.h"

#include <string>

#include "errors.h"

namespace tinylm::engine {

namespace {

constexpr size_t kMaxCacheBytes = size_t{1} << 42;  // 4 TB of address space: more is a mistake, not a machine

size_t cache_bytes(size_t per_head, const Config& config, int64_t slots) {
  size_t total = per_head;
  for (const int64_t factor : {config.n_kv_heads, config.n_layers, slots})
    if (__builtin_mul_overflow(total, static_cast<size_t>(factor), &total) || total > kMaxCacheBytes)
      throw EngineError("the key/value cache of " + std::to_string(slots) + " slots would pass 4 TB; lower max_batch");
  return total;
}

}  // namespace

KvCache::KvCache(const Config& config, const kernels::KernelTable& table, kernels::KvType type, int64_t slots)
    : table_(table),
      type_(type),
      layers_(config.n_layers),
      kv_heads_(config.n_kv_heads),
      head_dim_(config.head_dim),
      k_bytes_(table.kv_bytes(type, config.context_length, config.head_dim, false)),
      v_bytes_(table.kv_bytes(type, config.context_length, config.head_dim, true)),
      pages_(cache_bytes(k_bytes_ + v_bytes_, config, slots), false, "the key/value cache") {}

void KvCache::copy(int64_t from, int64_t to, int64_t count) const {
  for (int64_t layer = 0; layer < layers_; ++layer)
    for (int64_t head = 0; head < kv_heads_; ++head)
      table_.kv_copy(view(from, layer, head), view(to, layer, head), count);
}

}  // namespace tinylm::engine
