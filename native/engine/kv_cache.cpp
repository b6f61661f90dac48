#include "kv_cache.h"

#include <algorithm>
#include <string>
#include <utility>

#include "errors.h"

namespace tinylm::engine {

namespace {

constexpr int64_t kCapacityStep = 64;  // positions; coarse, so that similar requests can reuse a slot's cache (chosen)
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
      context_(config.context_length),
      layers_(config.n_layers),
      kv_heads_(config.n_kv_heads),
      head_dim_(config.head_dim) {
  const size_t per_head =
      table.kv_bytes(type, context_, head_dim_, false) + table.kv_bytes(type, context_, head_dim_, true);
  // Twice the address space: then a gap for one more slot exists however the others lie.
  pages_ = Pages(2 * cache_bytes(per_head, config, slots), true, "the key/value cache");
  slots_.resize(static_cast<size_t>(slots));
}

int64_t KvCache::capacity_for(int64_t positions) const {
  return std::min(context_, kernels::round_up(positions, kCapacityStep));
}

void KvCache::set_capacity(int64_t slot, int64_t capacity) {
  Slot& at = slots_[static_cast<size_t>(slot)];
  at.capacity = capacity;
  at.k_bytes = table_.kv_bytes(type_, capacity, head_dim_, false);
  at.v_bytes = table_.kv_bytes(type_, capacity, head_dim_, true);
  at.begin = at.end = 0;  // gives its old place back
  const size_t bytes = static_cast<size_t>(layers_ * kv_heads_) * (at.k_bytes + at.v_bytes);
  at.begin = first_gap(bytes);
  at.end = at.begin + bytes;
  at.data = pages_.data() + at.begin;
}

// The lowest place where `bytes` lie clear of every slot.
size_t KvCache::first_gap(size_t bytes) const {
  std::vector<std::pair<size_t, size_t>> taken;
  for (const Slot& slot : slots_)
    if (slot.end > slot.begin) taken.emplace_back(slot.begin, slot.end);
  std::sort(taken.begin(), taken.end());
  size_t at = 0;
  for (const auto& [begin, end] : taken) {
    if (begin >= at + bytes) break;
    at = end;
  }
  return at;
}

void KvCache::copy(int64_t from, int64_t to, int64_t count) const {
  for (int64_t layer = 0; layer < layers_; ++layer)
    table_.kv_copy(view(from, layer, 0, kv_heads_), view(to, layer, 0, kv_heads_), count);
}

}  // namespace tinylm::engine
