// Attention of a step: what goes into the cache, and who attends to what.
#include <array>
#include <vector>

#include "forward.h"

namespace tinylm::engine {

// A prompt of many tiles is stored before any of them is attended to; whatever fits one tile is stored just before it
// is read, while the lines are in L1.
void Forward::mix(const LayerWeights& layer, int64_t index, int thread) {
  const Part& part = part_of(thread);
  store_ahead(layer, index, thread);
  if (plan_->segment_divided) team_.meet();
  const int64_t D = config_.head_dim, group = config_.n_heads / config_.n_kv_heads;
  over(static_cast<int64_t>(part.units.size()), [&](int64_t u) {
    const Unit& unit = part.units[static_cast<size_t>(u)];
    for (int64_t r = unit.first_row; r < unit.first_row + unit.rows; ++r) {
      const Row& at = plan_->rows[static_cast<size_t>(r)];
      if (unit.stores) finish_new(layer, at, qkv_.row(r), unit.first_head, unit.heads, thread);
      rotate(layer.q_norm, qkv_.row(r) + unit.first_head * group * D, unit.heads * group, at.position);
    }
    attend(index, part, static_cast<size_t>(u), thread);
  });
}

// Keys and values that are not left to the units.
void Forward::store_ahead(const LayerWeights& layer, int64_t index, int thread) {
  const std::vector<Store>& stores = part_of(thread).stores;
  if (stores.empty()) return;
  over(static_cast<int64_t>(stores.size()), [&](int64_t i) {
    const Store& each = stores[static_cast<size_t>(i)];
    store_rows(layer, index, each.kv_head, 1, each.first_row, each.rows, thread);
  });
}

// All rows' keys and values, without attention.
void Forward::store(const LayerWeights& layer, int64_t index, int thread) {
  const Part& part = part_of(thread);
  store_ahead(layer, index, thread);
  over(static_cast<int64_t>(part.units.size()), [&](int64_t u) {
    const Unit& unit = part.units[static_cast<size_t>(u)];
    if (unit.stores) store_rows(layer, index, unit.first_head, unit.heads, unit.first_row, unit.rows, thread);
  });
}

void Forward::store_rows(const LayerWeights& layer, int64_t index, int64_t first_head, int64_t heads, int64_t first_row,
                         int64_t rows, int thread) {
  for (int64_t row = first_row; row < first_row + rows; ++row) {
    const Row& at = plan_->rows[static_cast<size_t>(row)];
    float *qkv = qkv_.row(row), *head = qkv + first_head * config_.head_dim;
    finish_new(layer, at, qkv, first_head, heads, thread);
    table_.kv_store(cache_.view(at.slot, index, first_head, heads), at.position, head + weights_.k_row,
                    head + weights_.v_row);
  }
}

// Makes a row's new keys and values what the cache is to hold.
void Forward::finish_new(const LayerWeights& layer, const Row& at, float* qkv, int64_t first_head, int64_t heads,
                         int thread) {
  const int64_t begin = first_head * config_.head_dim, count = heads * config_.head_dim;
  if (config_.value_embeddings) {
    float *looked_up = looked_up_.row(thread), *v = qkv + weights_.v_row + begin;
    table_.unpack_row(layer.value_embeddings, *at.token, looked_up);
    table_.add(v, looked_up + begin, count, v);
  }
  rotate(layer.k_norm, qkv + weights_.k_row + begin, heads, at.position);
}

// `heads` queries or keys that lie one after another.
void Forward::rotate(const NormWeights& norm, float* x, int64_t heads, int64_t position) const {
  const int64_t D = config_.head_dim;
  if (config_.qk_norm)
    for (int64_t h = 0; h < heads; ++h) table_.rmsnorm(x + h * D, norm.weight, D, config_.norm_eps, x + h * D);
  if (config_.position != PositionKind::rope) return;
  const float* cos = reinterpret_cast<const float*>(positions_.data()) + position * config_.rotary_dim;
  table_.rope(x, heads, D, config_.rotary_dim, cos, cos + config_.rotary_dim / 2);
}

// The two heads that are read after those of a unit.
std::array<kernels::Upcoming, 2> Forward::heads_after(const Part& part, size_t number, int64_t index) const {
  std::array<kernels::Upcoming, 2> heads{};
  size_t found = 0;
  for (size_t next = number + 1; next < part.units.size() && found < heads.size(); ++next) {
    const Unit& each = part.units[next];
    for (int64_t h = 0; h < each.heads && found < heads.size(); ++h) {
      const kernels::KvView view = cache_.view(each.slot, index, each.first_head + h, 1);
      heads[found++] = {view.k, view.v};
    }
  }
  return heads;
}

void Forward::attend(int64_t index, const Part& part, size_t number, int thread) {
  const Unit& unit = part.units[number];
  const int64_t D = config_.head_dim, group = config_.n_heads / config_.n_kv_heads;
  float* qkv = qkv_.row(unit.first_row);
  kernels::AttentionCall call{};
  call.kv = cache_.view(unit.slot, index, unit.first_head, unit.heads);
  call.group = group;
  call.queries = unit.rows;
  call.first_position = unit.first_position;
  call.window = config_.is_local[static_cast<size_t>(index)] ? config_.local_window : 0;
  call.scale = 1.0f / __builtin_sqrtf(static_cast<float>(D));
  call.q = qkv + unit.first_head * group * D;
  call.q_stride = qkv_.stride;
  call.out = mixed_.row(unit.first_row) + unit.first_head * group * D;
  call.out_stride = mixed_.stride;
  call.scratch = scratch_.row(thread);
  const auto [next, later] = heads_after(part, number, index);
  call.next = next, call.later = later;
  if (unit.stores)
    call.new_k = qkv + weights_.k_row + unit.first_head * D, call.new_v = qkv + weights_.v_row + unit.first_head * D;
  table_.attention(call);
}

}  // namespace tinylm::engine
