#include "forward.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "clock.h"
#include "lookups.h"

namespace tinylm::engine {

namespace {

constexpr int64_t kFusedChannels = 128;  // feed-forward channels finished while they are in L1 and L2 (chosen)

// Floats between rows: an odd number of cache lines, or the rows of a tile would compete for the same few sets of L1.
int64_t row_stride(int64_t floats) { return kernels::round_up(floats, kernels::kLanes) | kernels::kLanes; }

}  // namespace

Forward::Forward(const Weights& weights, Team& team, KvCache& cache, int64_t max_rows)
    : weights_(weights),
      config_(weights.config()),
      table_(*weights.kernels),
      team_(team),
      cache_(cache),
      max_rows_(max_rows) {
  for (const kernels::Matrix* matrix :
       {&weights.layers[0].qkv, &weights.layers[0].wo, &weights.layers[0].up, &weights.layers[0].down})
    row_macs_ += matrix->n * matrix->k;
  for (Plan* plan : {&all_, &wanted_}) plan->parts.resize(static_cast<size_t>(team.size()));
  make_buffers();
  make_prepared_rows();
}

void Forward::make_buffers() {
  const auto buffer = [](int64_t rows, int64_t width) {
    const int64_t stride = row_stride(width);
    return Buffer{Pages(static_cast<size_t>(rows * stride) * sizeof(float), false, "a replica's buffers"), stride};
  };
  const Config& c = config_;
  x_ = buffer(max_rows_, c.d_model);
  qkv_ = buffer(max_rows_, weights_.qkv_rows);
  mixed_ = buffer(max_rows_, c.q_width());
  up_ = buffer(max_rows_, weights_.up_rows);
  const int64_t logit_rows = std::min(kLogitRows, max_rows_);
  logits_ = buffer(logit_rows, c.vocab_size);
  maxima_ = buffer(logit_rows, c.vocab_size / kernels::kMaximaBlock + 1);
  passing_ = buffer(logit_rows, kHeadChannels);
  tops_ = buffer(logit_rows, kLikelyLevels * kernels::kLanes);
  floors_.resize(static_cast<size_t>(logit_rows));
  normed_ = buffer(team_.size(), c.d_model);
  const int64_t added_width = c.adds_to_embedding() ? c.d_model : 0;
  looked_up_ = buffer(team_.size(), std::max(c.value_embeddings ? c.kv_width() : 0, added_width));
  scratch_ = buffer(team_.size(), static_cast<int64_t>(table_.attention_scratch_floats(c.context_length, c.head_dim)));
  const int64_t per_position = c.position == PositionKind::rope         ? c.rotary_dim
                               : c.position == PositionKind::sinusoidal ? c.d_model
                                                                        : 0;
  positions_ = Pages(static_cast<size_t>(c.context_length * per_position) * sizeof(float), false, "the position table");
}

void Forward::make_prepared_rows() {
  for (const LayerWeights& layer : weights_.layers)
    for (const kernels::Matrix* matrix : {&layer.qkv, &layer.wo, &layer.up, &layer.down})
      prepared_bytes_ = std::max(prepared_bytes_, table_.row_bytes(matrix->type, matrix->k));
  prepared_bytes_ = std::max(prepared_bytes_, table_.row_bytes(weights_.head.type, weights_.head.k));
  const auto rows = [this](int64_t count) {
    return Pages(static_cast<size_t>(count) * prepared_bytes_, false, "a replica's buffers");
  };
  prepared_ = {rows(max_rows_), rows(max_rows_), rows(team_.size())};
}

size_t Forward::bytes() const {
  size_t total = positions_.size();
  for (const Buffer* buffer :
       {&x_, &qkv_, &mixed_, &up_, &logits_, &maxima_, &passing_, &tops_, &normed_, &looked_up_, &scratch_})
    total += buffer->pages.size();
  for (const Pages& pages : prepared_) total += pages.size();
  return total;
}

void Forward::run(const std::vector<Segment>& segments, LogitSink& sink) {
  sink_ = &sink;
  int64_t rows = 0;
  for (const Segment& s : segments) rows += s.count;
  Pace& pace = pace_of(rows);
  team_.use_all(pace.all_threads());
  make_plan(segments, all_);
  plan_ = &all_;
  narrows_ = plan_last_layer(segments);
  auto job = [this](int thread) { work(thread); };
  const int64_t begin = ticks();
  team_.run(job);
  const int64_t spent = ticks() - begin;
  // Where threads share channels, waits are many and too short for sleep.
  const int64_t worked = all_.parts_in_use > 1 ? spent * team_.active() - team_.slept_ticks() : 0;
  if (team_.size() > 1) pace.record(spent / rows, worked / rows);
}

Pace& Forward::pace_of(int64_t rows) {
  size_t bits = 0;
  while (rows >> bits) ++bits;
  return paces_[bits];
}

PartTicks Forward::take_ticks() { return std::exchange(ticks_, {}); }

void Forward::lap(int thread, StepPart part) {
  if (thread != 0) return;
  const int64_t now = ticks();
  ticks_[static_cast<size_t>(part)] += now - last_tick_;
  last_tick_ = now;
}

void Forward::work(int thread) {
  if (thread == 0) last_tick_ = ticks();
  embed(thread);
  const int64_t last = config_.n_layers - 1;
  for (int64_t i = 0; i < last; ++i) layer(thread, i);
  if (narrows_) narrow(thread);
  if (!plan_->rows.empty()) layer(thread, last);
  if (divided()) team_.meet();
  if (!plan_->logit_rows.empty()) head(thread);
}

void Forward::embed(int thread) {
  over_rows(thread, [&](int64_t r) {
    const Row& row = plan_->rows[static_cast<size_t>(r)];
    float* x = x_.row(r);
    table_.unpack_row(weights_.embeddings, *row.token, x);
    look_up(row, x, looked_up_.row(thread));
    const float* added = weights_.positions;
    if (config_.position == PositionKind::sinusoidal) added = reinterpret_cast<const float*>(positions_.data());
    if (added != nullptr) table_.add(x, added + row.position * config_.d_model, config_.d_model, x);
  });
}

// Adds to x what the tables say of the text up to this row, one vector after another.
void Forward::look_up(const Row& row, float* x, float* looked_up) {
  const auto add_row = [&](const kernels::Matrix& matrix, int64_t index) {
    table_.unpack_row(matrix, index, looked_up);
    table_.add(x, looked_up, config_.d_model, x);
  };
  for (size_t i = 0; i < weights_.ngrams.size(); ++i)
    add_row(weights_.ngrams[i], ngram_row(row.token, row.position, static_cast<int64_t>(i) + 2, config_.ngram_rows[i]));
  if (config_.copy_ngrams) {
    const LastUse use = last_use(row.token, row.position, config_.copy_ngrams);
    add_row(weights_.copies, config_.vocab_size + use.length);
    if (use.length) add_row(weights_.copies, use.after);
  }
}

void Forward::layer(int thread, int64_t index) {
  const LayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
  const uint8_t* prepared = prepare_normed(thread, layer.attn_norm, layer.qkv, 0);
  lap(thread, StepPart::rest);
  multiply(thread, layer.qkv, prepared, qkv_, false);
  lap(thread, StepPart::gemm);
  // With parallel residuals the feed-forward reads the layer's input, so it is prepared before attention adds to it.
  const uint8_t* early = nullptr;
  if (config_.parallel_residual) early = prepare_normed(thread, layer.mlp_norm, layer.up, 1);
  mix(layer, index, thread);
  lap(thread, StepPart::attention);
  prepared = prepare_plain(thread, mixed_, layer.wo);
  lap(thread, StepPart::rest);
  multiply(thread, layer.wo, prepared, x_, true);
  lap(thread, StepPart::gemm);
  feed_forward(thread, layer, early);
}

// Of a row without logits the last layer need leave keys and values alone; the rows with logits then go through it by
// themselves.
void Forward::narrow(int thread) {
  const int64_t index = config_.n_layers - 1;
  const LayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
  const uint8_t* prepared = prepare_normed(thread, layer.attn_norm, layer.qkv, 0);
  lap(thread, StepPart::rest);
  multiply(thread, layer.qkv, prepared, qkv_, false, weights_.k_row);
  lap(thread, StepPart::gemm);
  store(layer, index, thread);
  team_.meet();
  if (thread == 0) keep_wanted_rows();
  team_.meet();
  lap(thread, StepPart::attention);
}

void Forward::keep_wanted_rows() {
  for (size_t i = 0; i < all_.logit_rows.size(); ++i)  // ascending, so none is overwritten before it has moved
    std::memmove(x_.row(static_cast<int64_t>(i)), x_.row(all_.logit_rows[i]),
                 static_cast<size_t>(config_.d_model) * sizeof(float));
  plan_ = &wanted_;
}

void Forward::normalise(const NormWeights& norm, const float* x, float* y) const {
  if (config_.norm == NormKind::rmsnorm) table_.rmsnorm(x, norm.weight, config_.d_model, config_.norm_eps, y);
  else table_.layernorm(x, norm.weight, norm.bias, config_.d_model, config_.norm_eps, y);
}

// Returns the first row of this thread's part. A single row is prepared by every thread for itself: cheaper than
// meeting the others once more.
const uint8_t* Forward::prepare_normed(int thread, const NormWeights& norm, const kernels::Matrix& matrix,
                                       size_t buffer) {
  const size_t row_bytes = table_.row_bytes(matrix.type, matrix.k);
  float* normed = normed_.row(thread);
  const auto prepare = [&](int64_t row, uint8_t* to) {
    normalise(norm, x_.row(row), normed);
    table_.prepare_row(matrix.type, normed, matrix.k, to);
  };
  if (alone() && buffer == 0) {
    uint8_t* own = own_row(thread);
    prepare(0, own);
    return own;
  }
  const Part& part = part_of(thread);
  over_rows(thread, [&](int64_t r) { prepare(r, prepared_row(buffer, part, r, row_bytes)); });
  return prepared_row(buffer, part, part.begin, row_bytes);
}

const uint8_t* Forward::prepare_plain(int thread, const Buffer& from, const kernels::Matrix& matrix) {
  const size_t row_bytes = table_.row_bytes(matrix.type, matrix.k);
  if (alone()) {
    uint8_t* own = own_row(thread);
    table_.prepare_row(matrix.type, from.row(0), matrix.k, own);
    return own;
  }
  const Part& part = part_of(thread);
  over_rows(thread, [&](int64_t r) {
    table_.prepare_row(matrix.type, from.row(r), matrix.k, prepared_row(0, part, r, row_bytes));
  });
  return prepared_row(0, part, part.begin, row_bytes);
}

// Channels per chunk: four chunks a thread even out a neighbour's interruptions.
int64_t Forward::grain(int64_t channels) const {
  if (team_.active() == 1) return channels;
  return kernels::round_up(std::max<int64_t>(channels / (4 * team_.active()), 1), 2 * kernels::kLanes);
}

void Forward::multiply(int thread, const kernels::Matrix& matrix, const uint8_t* prepared, const Buffer& to,
                       bool accumulate, int64_t first_channel) {
  const Part& part = part_of(thread);
  const int64_t channels = matrix.n - first_channel;
  const auto product = [&](int64_t begin, int64_t end) {
    table_.matmul(matrix, prepared, part.end - part.begin, first_channel + begin, first_channel + end,
                  to.row(part.begin), to.stride, accumulate);
  };
  if (divided()) product(0, channels);
  else team_.each(channels, grain(channels), product);
}

// `early`: the prepared input when attention did not change it (parallel residuals), else null.
void Forward::feed_forward(int thread, const LayerWeights& layer, const uint8_t* early) {
  const uint8_t* prepared = early != nullptr ? early : prepare_normed(thread, layer.mlp_norm, layer.up, 0);
  lap(thread, StepPart::rest);
  const Part& part = part_of(thread);
  const int64_t F = config_.d_ff, rows = part.end - part.begin, up_row = weights_.up_row;
  const auto channels = [&](int64_t begin, int64_t end) {
    const int64_t gate_end = up_row ? kernels::round_up(end, kernels::kLanes) : end;  // into the padding before up_row
    float* to = up_.row(part.begin);
    table_.matmul(layer.up, prepared, rows, begin, gate_end, to, up_.stride, false);
    if (up_row) table_.matmul(layer.up, prepared, rows, up_row + begin, up_row + end, to, up_.stride, false);
    for (int64_t r = part.begin; r < part.end; ++r) {
      float* hidden = up_.row(r) + begin;
      table_.activate(config_.activation, hidden, up_row ? hidden + up_row : nullptr, end - begin, hidden);
    }
  };
  if (divided()) {
    for (int64_t begin = 0; begin < F; begin += kFusedChannels) channels(begin, std::min(begin + kFusedChannels, F));
  } else {
    team_.each(F, team_.active() == 1 ? kFusedChannels : std::min(kFusedChannels, grain(F)), channels);
  }
  lap(thread, StepPart::gemm);
  prepared = prepare_plain(thread, up_, layer.down);
  lap(thread, StepPart::rest);
  multiply(thread, layer.down, prepared, x_, true);
  lap(thread, StepPart::gemm);
}

}  // namespace tinylm::engine
