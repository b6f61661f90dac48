// Which rows a step has, and which thread does what of them.
#include <algorithm>

#include "forward.h"

namespace tinylm::engine {

namespace {

constexpr int64_t kQueryTile = 16;  // prompt positions per attention call, so that threads share a long prompt
// Rows per thread from which each thread takes its own rows through a layer. From 6 on that was a fifth to a half
// faster for the llamas and equal for slm-51m, at 4 equal or slower (decode, two threads, Zen 5).
constexpr int64_t kDividedRows = 6;
constexpr int64_t kAttentionCost = 3;  // a multiply-accumulate in attention, against one in a product (measured)
constexpr int64_t kRowTile = 8;        // rows that a product takes at once at most; a multiple of four

// Rows that may go twice through a layer's keys and values for one that skips the rest (chosen).
constexpr int64_t kWantedPerSkipped = 4;

}  // namespace

// Fills wanted_ with the rows that have logits; returns whether the last layer is cheaper with these alone. It computes
// the keys and values of all rows first, a tenth to a sixth of its products, and those of the wanted rows again.
bool Forward::plan_last_layer(const std::vector<Segment>& segments) {
  int64_t rows = 0, wanted = 0;
  wanted_segments_.clear();
  for (const Segment& s : segments) {
    rows += s.count, wanted += s.logits;
    const int64_t skipped = s.count - s.logits;
    if (s.logits)
      wanted_segments_.push_back({s.slot, s.first_position + skipped, s.logits, s.tokens + skipped, s.logits});
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

void divide_rows(const std::vector<Segment>& segments, int64_t parts, const RowCost& cost,
                 std::vector<int64_t>& begins) {
  int64_t total = 0, done = 0, row = 0;
  for (const Segment& s : segments)
    for (int64_t i = 0; i < s.count; ++i) total += cost.at(s.first_position + i);
  begins.assign(1, 0);
  for (const Segment& s : segments)
    for (int64_t i = 0; i < s.count; ++i, ++row) {
      const int64_t position = s.first_position + i, next_cost = cost.at(position),
                    part = static_cast<int64_t>(begins.size());
      const bool boundary = i == 0 || position % kRowTile == 0;
      const int64_t to_next = std::min(s.count - i, kRowTile - position % kRowTile);  // boundary, in rows
      if (row > 0 && boundary && part < parts && done + to_next * next_cost / 2 >= total * part / parts)
        begins.push_back(row);
      done += next_cost;
    }
}

void Forward::divide(const std::vector<Segment>& segments, Plan& plan) {
  const int64_t rows = static_cast<int64_t>(plan.rows.size()), threads = team_.active();
  divide_rows(segments, rows >= kDividedRows * threads ? threads : 1,
              {row_macs_, kAttentionCost * 2 * config_.q_width()}, begins_);
  plan.parts_in_use = begins_.size();
  for (size_t part = 0; part < plan.parts.size(); ++part) {
    Part& each = plan.parts[part];
    each.begin = part < begins_.size() ? begins_[part] : rows;
    each.end = part + 1 < begins_.size() ? begins_[part + 1] : rows;
    each.stores.clear(), each.units.clear();
  }
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
    const bool fused = one_tile && whole;
    const int64_t sharers = plan.parts_in_use > 1 ? 1 : team_.active();
    // A lone row, which is always fused, has one call for each thread that shares it.
    const int64_t heads = s.count == 1 ? (config_.n_kv_heads + sharers - 1) / sharers : 1;
    for (int64_t h = 0; h < config_.n_kv_heads; h += heads) {
      if (!fused) part.stores.push_back({h, begin, end - begin});
      for (int64_t r = begin; r < end; r += kQueryTile)
        part.units.push_back({s.slot, h, std::min(heads, config_.n_kv_heads - h), r, std::min(kQueryTile, end - r),
                              s.first_position + r - first_row, fused});
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
