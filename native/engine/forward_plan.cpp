// Which rows a step has, and which thread does what of them.
#include <algorithm>

#include "forward.h"

namespace tinylm::engine {

namespace {

constexpr int64_t kQueryTile = 16;      // prompt positions per attention call, so that threads share a long prompt
constexpr int64_t kDividedRows = 12;    // rows per thread from which each thread takes its own rows through a layer
constexpr int64_t kAttentionCost = 3;   // a multiply-accumulate in attention, against one in a product (measured)
constexpr int64_t kRowTile = 8;         // rows that a product takes at once at most; a multiple of four

}  // namespace

void Forward::plan(const std::vector<Segment>& segments) {
  rows_.clear(), logit_rows_.clear();
  int64_t end = 0;
  for (const Segment& s : segments) {
    const int64_t first_row = static_cast<int64_t>(rows_.size());
    for (int64_t i = 0; i < s.count; ++i) {
      rows_.push_back({s.slot, s.first_position + i, s.tokens + i});
      if (i >= s.count - s.logits) logit_rows_.push_back(first_row + i);
    }
    end = std::max(end, s.first_position + s.count);
  }
  divide(segments);
  int64_t first_row = 0;
  for (const Segment& s : segments) {
    plan_attention(s, first_row);
    first_row += s.count;
  }
  extend_positions(end);
}

// Parts as nearly equal in work as whole tiles of rows allow. A part begins with a segment or with a position that is a
// multiple of four: the cache's values of four positions share words, and one thread writes them.
void Forward::divide(const std::vector<Segment>& segments) {
  const int64_t rows = static_cast<int64_t>(rows_.size());
  const int64_t parts = rows >= kDividedRows * team_.size() ? team_.size() : 1;
  const auto cost = [this](const Row& row) { return row_macs_ + kAttentionCost * 2 * config_.q_width() * row.position; };
  int64_t total = 0, done = 0, r = 0, part = 0;
  for (const Row& row : rows_) total += cost(row);
  parts_[0].begin = 0;
  for (const Segment& s : segments)
    for (int64_t i = 0; i < s.count; ++i, ++r) {
      const int64_t next_cost = cost(rows_[static_cast<size_t>(r)]);
      const bool boundary = i == 0 || (s.first_position + i) % kRowTile == 0;
      if (boundary && part + 1 < parts && done + kRowTile / 2 * next_cost >= total * (part + 1) / parts) {
        parts_[static_cast<size_t>(part)].end = r;
        parts_[static_cast<size_t>(++part)].begin = r;
      }
      done += next_cost;
    }
  parts_[static_cast<size_t>(part)].end = rows;
  parts_in_use_ = static_cast<size_t>(part) + 1;
  if (divided())
    for (++part; part < team_.size(); ++part) parts_[static_cast<size_t>(part)].begin = parts_[static_cast<size_t>(part)].end = rows;
  for (Part& each : parts_) each.stores.clear(), each.units.clear();
  segment_divided_ = false;
}

void Forward::plan_attention(const Segment& s, int64_t first_row) {
  const int64_t last_row = first_row + s.count;
  const bool one_tile = s.count <= kQueryTile;
  for (size_t p = 0; p < parts_in_use_; ++p) {
    Part& part = parts_[p];
    const int64_t begin = std::max(first_row, part.begin), end = std::min(last_row, part.end);
    if (begin >= end) continue;
    const bool whole = end - begin == s.count;
    segment_divided_ |= !whole;
    for (int64_t g = 0; g < config_.n_kv_heads; ++g) {
      const bool fused = one_tile && whole;
      if (!fused) part.stores.push_back({g, begin, end - begin});
      for (int64_t r = begin; r < end; r += kQueryTile)
        part.units.push_back({s.slot, g, r, std::min(kQueryTile, end - r), s.first_position + r - first_row, fused});
    }
  }
}

// Sinusoidal embeddings are the same angles as RoPE's over the whole width, sine and cosine interleaved.
void Forward::extend_positions(int64_t end) {
  float* table = reinterpret_cast<float*>(positions_.data());
  const int64_t C = config_.d_model;
  std::vector<float> angles(static_cast<size_t>(C));
  for (; positions_ready_ < end; ++positions_ready_) {
    if (config_.position == PositionKind::rope) {
      float* cos = table + positions_ready_ * config_.rotary_dim;
      kernels::rope_table(positions_ready_, config_.rotary_dim, config_.rope_theta, cos, cos + config_.rotary_dim / 2);
    } else if (config_.position == PositionKind::sinusoidal) {
      float *cos = angles.data(), *sin = cos + C / 2, *to = table + positions_ready_ * C;
      kernels::rope_table(positions_ready_, C, 10000.0, cos, sin);
      for (int64_t i = 0; i < C / 2; ++i) to[2 * i] = sin[i], to[2 * i + 1] = cos[i];
    }
  }
}

}  // namespace tinylm::engine
