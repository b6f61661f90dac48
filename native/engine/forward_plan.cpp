// Which rows a step has, and which thread does what of them.
#include <algorithm>

#include "forward.h"

namespace tinylm::engine {

namespace {

constexpr int64_t kQueryTile = 16;      // prompt positions per attention call, so that threads share a long prompt
constexpr int64_t kDividedRows = 12;    // rows per thread from which each thread takes its own rows through a layer
constexpr int64_t kAttentionCost = 3;   // a multiply-accumulate in attention, against one in a product (measured)
constexpr int64_t kRowTile = 8;         // rows that a product takes at once at most; a multiple of four

constexpr int64_t kWantedPerSkipped = 4;  // rows that may go twice through a layer's keys and values for one that skips the rest (chosen)

}  // namespace

// Fills wanted_ with the rows that have logits; returns whether the last layer is cheaper with these alone. It computes the
// keys and values of all rows first, a tenth to a sixth of its products, and those of the wanted rows again.
bool Forward::plan_last_layer(const std::vector<Segment>& segments) {
  int64_t rows = 0, wanted = 0;
  wanted_segments_.clear();
  for (const Segment& s : segments) {
    rows += s.count, wanted += s.logits;
    const int64_t skipped = s.count - s.logits;
    if (s.logits) wanted_segments_.push_back({s.slot, s.first_position + skipped, s.logits, s.tokens + skipped, s.logits});
  }
  if ((rows - wanted) * kWantedPerSkipped < wanted || rows == wanted) return false;
  make_plan(wanted_segments_, wanted_);
  return true;
}

void Forward::make_plan(const std::vector<Segment>& segments, Plan& plan) {
  plan.rows.clear(), plan.logit_rows.clear();
  int64_t end = 0;
  for (const Segment& s : segments) {
    const int64_t first_row = static_cast<int64_t>(plan.rows.size());
    for (int64_t i = 0; i < s.count; ++i) {
      plan.rows.push_back({s.slot, s.first_position + i, s.tokens + i});
      if (i >= s.count - s.logits) plan.logit_rows.push_back(first_row + i);
    }
    end = std::max(end, s.first_position + s.count);
  }
  divide(segments, plan);
  int64_t first_row = 0;
  for (const Segment& s : segments) {
    plan_attention(s, first_row, plan);
    first_row += s.count;
  }
  extend_positions(end);
}

// Parts as nearly equal in work as whole tiles of rows allow. A part begins with a segment or with a position that is a
// multiple of four: the cache's values of four positions share words, and one thread writes them.
void Forward::divide(const std::vector<Segment>& segments, Plan& plan) {
  const int64_t rows = static_cast<int64_t>(plan.rows.size());
  const int64_t parts = rows >= kDividedRows * team_.size() ? team_.size() : 1;
  const auto cost = [this](const Row& row) { return row_macs_ + kAttentionCost * 2 * config_.q_width() * row.position; };
  int64_t total = 0, done = 0, r = 0, part = 0;
  for (const Row& row : plan.rows) total += cost(row);
  plan.parts[0].begin = 0;
  for (const Segment& s : segments)
    for (int64_t i = 0; i < s.count; ++i, ++r) {
      const int64_t next_cost = cost(plan.rows[static_cast<size_t>(r)]);
      const bool boundary = i == 0 || (s.first_position + i) % kRowTile == 0;
      if (boundary && part + 1 < parts && done + kRowTile / 2 * next_cost >= total * (part + 1) / parts) {
        plan.parts[static_cast<size_t>(part)].end = r;
        plan.parts[static_cast<size_t>(++part)].begin = r;
      }
      done += next_cost;
    }
  plan.parts[static_cast<size_t>(part)].end = rows;
  plan.parts_in_use = static_cast<size_t>(part) + 1;
  if (plan.parts_in_use > 1)
    for (++part; part < team_.size(); ++part)
      plan.parts[static_cast<size_t>(part)].begin = plan.parts[static_cast<size_t>(part)].end = rows;
  for (Part& each : plan.parts) each.stores.clear(), each.units.clear();
  plan.segment_divided = false;
}

void Forward::plan_attention(const Segment& s, int64_t first_row, Plan& plan) {
  const int64_t last_row = first_row + s.count;
  const bool one_tile = s.count <= kQueryTile;
  for (size_t p = 0; p < plan.parts_in_use; ++p) {
    Part& part = plan.parts[p];
    const int64_t begin = std::max(first_row, part.begin), end = std::min(last_row, part.end);
    if (begin >= end) continue;
    const bool whole = end - begin == s.count;
    plan.segment_divided |= !whole;
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
