// From the last layer's rows to logits and what takes them.
#include <algorithm>
#include <limits>

#include "forward.h"

namespace tinylm::engine {

namespace {

constexpr int64_t kNearLogits = 262'144;  // of all rows: 1 MB, which a second-level cache may hold (chosen)

}  // namespace

// Levels for keep_likely, or 0: all logits of these rows are to be stored. Threads that share the channels store them
// all.
int64_t Forward::likely_levels(int64_t first, int64_t rows) const {
  if (team_.active() > 1 || rows * config_.vocab_size < kNearLogits) return 0;
  int64_t most = 0;
  for (int64_t row = first; row < first + rows; ++row) {
    const int64_t wanted = sink_->wanted(row);
    if (wanted == 0 || wanted > kLikelyLevels * kernels::kLanes) return 0;
    most = std::max(most, wanted);
  }
  return (most + kernels::kLanes - 1) / kernels::kLanes;
}

// Of few wanted logits only the likely blocks are stored: of V = 50,257 all of them, written and read again, leave the
// second-level cache.
void Forward::some_logits(const uint8_t* prepared, int64_t rows, int64_t begin, int64_t end, int64_t levels) {
  const Buffer& to = levels ? passing_ : logits_;
  float* first = levels ? passing_.row(0) - begin : logits_.row(0);
  table_.matmul(weights_.head, prepared, rows, begin, end, first, to.stride, false);
  for (int64_t r = 0; r < rows; ++r) {
    float *logits = first + r * to.stride + begin, *maxima = maxima_.row(r) + begin / kernels::kMaximaBlock;
    if (config_.logit_softcap > 0) table_.softcap(logits, end - begin, config_.logit_softcap);
    table_.block_max(logits, end - begin, maxima);
    if (levels)
      floors_[static_cast<size_t>(r)] =
          table_.keep_likely(logits, end - begin, maxima, levels, tops_.row(r), logits_.row(r) + begin);
  }
}

void Forward::head(int thread) {
  const kernels::Matrix& matrix = weights_.head;
  const size_t row_bytes = table_.row_bytes(matrix.type, matrix.k);
  uint8_t* prepared = prepared_[0].data();
  const int64_t V = config_.vocab_size, total = static_cast<int64_t>(plan_->logit_rows.size());
  for (int64_t tile = 0; tile < total; tile += kLogitRows) {
    const int64_t rows = std::min(kLogitRows, total - tile);
    float* normed = normed_.row(thread);
    team_.each(rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        normalise(weights_.norm, x_.row(plan_->logit_rows[static_cast<size_t>(tile + r)]), normed);
        table_.prepare_row(matrix.type, normed, matrix.k, prepared + static_cast<size_t>(r) * row_bytes);
      }
    });
    lap(thread, StepPart::rest);
    const int64_t levels = likely_levels(tile, rows);
    if (thread == 0) std::fill(floors_.begin(), floors_.end(), -std::numeric_limits<float>::infinity());
    for (int64_t r = 0; levels && r < rows; ++r) std::fill_n(tops_.row(r), levels * kernels::kLanes, floors_[0]);
    team_.each(V, std::min(kHeadChannels, kernels::round_up(grain(V), kernels::kMaximaBlock)),
               [&](int64_t begin, int64_t end) { some_logits(prepared, rows, begin, end, levels); });
    lap(thread, StepPart::head);
    team_.each(rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        sink_->take(thread, tile + r, logits_.row(r), maxima_.row(r), floors_[static_cast<size_t>(r)]);
    });
    lap(thread, StepPart::sampling);
  }
}

}  // namespace tinylm::engine
