// One forward pass of the model over a ragged batch: any mix of prompt chunks and single new tokens.
// Threads share few rows channel by channel; many rows are divided among them, and meet in attention and head alone.
// Must not know: requests, sampling, files. Every row's result depends on its own tokens alone.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kv_cache.h"
#include "pace.h"
#include "team.h"
#include "weights.h"

namespace tinylm::engine {

// `count` tokens of one slot at positions first_position...; the last `logits` of them need logits. `tokens` points
// into the whole text, so that the tokens before these can be read.
struct Segment {
  int64_t slot, first_position, count;
  const int32_t* tokens;
  int64_t logits;
};

// What a row costs its thread: products, and attention by position.
struct RowCost {
  int64_t products, per_position;
  int64_t at(int64_t position) const { return products + per_position * position; }
};

// Puts the first row of each part into `begins`: at most `parts`, as nearly equal in cost as boundaries allow. A part
// begins with a segment, or where its tiles of rows would end; that is a multiple of four, since the cache's values of
// four positions share words.
void divide_rows(const std::vector<Segment>& segments, int64_t parts, const RowCost& cost,
                 std::vector<int64_t>& begins);

// Receives one row of logits at a time, on any thread of the team; must not throw.
class LogitSink {
 public:
  virtual ~LogitSink() = default;
  // How many of a row's largest logits it wants, or 0: all. row: its number among the call's logit rows.
  virtual int64_t wanted(int64_t row) const = 0;
  // logits: (V), may be changed. maxima: as block_max writes them. floor: blocks of logits whose maximum is below it
  // may hold anything; wanted(row) maxima reach it, or it is -inf.
  virtual void take(int thread, int64_t row, float* logits, float* maxima, float floor) = 0;
};

constexpr int64_t kLogitRows = 64;       // rows of logits held at once: 13 MB at V = 50,257
constexpr int64_t kHeadChannels = 1024;  // logits whose block maxima are taken in L2: 16 blocks, as keep_likely takes
constexpr int64_t kLikelyLevels = 4;     // 64 wanted logits at most, or all are stored (chosen)

enum class StepPart { gemm, attention, head, sampling, rest };
using PartTicks = std::array<int64_t, 5>;

class Forward {
 public:
  Forward(const Weights& weights, Team& team, KvCache& cache, int64_t max_rows);

  int64_t max_rows() const { return max_rows_; }
  // Stores the rows' keys and values and hands each wanted row of logits to `sink`. At most max_rows() rows in all,
  // every token within the vocabulary and every position within the context (the scheduler's duty).
  void run(const std::vector<Segment>& segments, LogitSink& sink);
  // Ticks that thread 0 spent in each part since the last call of this.
  PartTicks take_ticks();
  size_t bytes() const;  // of all buffers

 private:
  struct Row {
    int64_t slot, position;
    const int32_t* token;  // within its text: all those before it can be read
  };
  struct Store {  // all positions of one slot and head: neighbours share words of the cache, so one thread writes them
    int64_t kv_head, first_row, rows;
  };
  struct Unit {  // one attention call
    int64_t slot, first_head, heads, first_row, rows, first_position;
    bool stores;  // first puts its rows into the cache
  };
  struct Part {  // what one thread does of a step whose rows are divided, or all threads together of one whose are not
    int64_t begin, end;  // rows
    std::vector<Store> stores;
    std::vector<Unit> units;
  };
  struct Plan {
    std::vector<Row> rows;
    std::vector<int64_t> logit_rows;
    std::vector<Part> parts;  // one per thread
    size_t parts_in_use = 1;
    bool segment_divided = false;  // some segment's rows belong to two parts
  };
  struct Buffer {
    Pages pages;
    int64_t stride = 0;  // floats per row
    float* row(int64_t index) const { return reinterpret_cast<float*>(pages.data()) + index * stride; }
  };

  Pace& pace_of(int64_t rows);
  void make_buffers();
  void make_prepared_rows();
  bool plan_last_layer(const std::vector<Segment>& segments);
  void make_plan(const std::vector<Segment>& segments, Plan& plan);
  void divide(const std::vector<Segment>& segments, Plan& plan);
  void plan_attention(const Segment& segment, int64_t first_row, Plan& plan);
  void extend_positions(int64_t end);
  void work(int thread);
  void embed(int thread);
  void look_up(const Row& row, float* x, float* looked_up);
  void layer(int thread, int64_t index);
  void narrow(int thread);
  void keep_wanted_rows();
  void mix(const LayerWeights& layer, int64_t index, int thread);
  void feed_forward(int thread, const LayerWeights& layer, const uint8_t* early);
  void head(int thread);
  int64_t likely_levels(int64_t first, int64_t rows) const;
  void some_logits(const uint8_t* prepared, int64_t rows, int64_t begin, int64_t end, int64_t levels);
  void store(const LayerWeights& layer, int64_t index, int thread);
  void store_ahead(const LayerWeights& layer, int64_t index, int thread);
  void store_rows(const LayerWeights& layer, int64_t index, int64_t first_head, int64_t heads, int64_t first_row,
                  int64_t rows, int thread);
  void finish_new(const LayerWeights& layer, const Row& at, float* qkv, int64_t first_head, int64_t heads, int thread);
  void rotate(const NormWeights& norm, float* x, int64_t heads, int64_t position) const;
  std::array<kernels::Upcoming, 2> heads_after(const Part& part, size_t number, int64_t index) const;
  void attend(int64_t index, const Part& part, size_t number, int thread);
  const uint8_t* prepare_normed(int thread, const NormWeights& norm, const kernels::Matrix& matrix, size_t buffer);
  const uint8_t* prepare_plain(int thread, const Buffer& from, const kernels::Matrix& matrix);
  void normalise(const NormWeights& norm, const float* x, float* y) const;
  void multiply(int thread, const kernels::Matrix& matrix, const uint8_t* prepared, const Buffer& to, bool accumulate,
                int64_t first_channel = 0);
  const Part& part_of(int thread) const { return plan_->parts[divided() ? static_cast<size_t>(thread) : 0]; }
  bool divided() const { return plan_->parts_in_use > 1; }
  template <typename Body>
  void over_rows(int thread, Body&& body);
  template <typename Body>
  void over(int64_t count, Body&& body);
  int64_t grain(int64_t channels) const;
  // The rows of a part lie close together; parts lie so far apart that none reaches into the next, however long a row
  // is.
  uint8_t* prepared_row(size_t buffer, const Part& part, int64_t row, size_t row_bytes) const {
    return prepared_[buffer].data() + static_cast<size_t>(part.begin) * prepared_bytes_ +
           static_cast<size_t>(row - part.begin) * row_bytes;
  }
  uint8_t* own_row(int thread) const { return prepared_[2].data() + static_cast<size_t>(thread) * prepared_bytes_; }
  bool alone() const { return plan_->rows.size() == 1 && team_.active() > 1; }
  void lap(int thread, StepPart part);

  const Weights& weights_;
  const Config& config_;
  const kernels::KernelTable& table_;
  Team& team_;
  KvCache& cache_;
  const int64_t max_rows_;
  LogitSink* sink_ = nullptr;
  std::array<Pace, 64> paces_;  // by the bits of a step's number of rows, so that like is compared with like

  Plan all_, wanted_;  // all rows, and those with logits alone, for the last layer
  const Plan* plan_ = &all_;
  bool narrows_ = false;  // this step goes from all_ to wanted_
  std::vector<Segment> wanted_segments_;
  std::vector<int64_t> begins_;  // first rows of the plan's parts
  int64_t row_macs_ = 0;         // multiply-accumulates of a row in the products of one layer

  Buffer x_, qkv_, mixed_, up_, logits_, maxima_, normed_, looked_up_, scratch_;  // the last three: one row per thread
  Buffer passing_, tops_;          // logits of some channels, and what keep_likely remembers of a row
  std::vector<float> floors_;      // of the rows of logits
  std::array<Pages, 3> prepared_;  // 0, 1: shared rows; 2: one row per thread
  size_t prepared_bytes_ = 0;      // of the largest prepared row
  Pages positions_;                // RoPE: cos then sin of each position; sinusoidal: (context, C)
  int64_t positions_ready_ = 0;
  PartTicks ticks_{};
  int64_t last_tick_ = 0;
};

// Calls body(row) for the rows that this thread is to prepare.
template <typename Body>
void Forward::over_rows(int thread, Body&& body) {
  if (divided()) {
    for (int64_t r = part_of(thread).begin; r < part_of(thread).end; ++r) body(r);
  } else {
    over(static_cast<int64_t>(plan_->rows.size()), body);
  }
}

// Calls body(i) for 0..count: all of them, of this thread's own part, or shared with the other threads.
template <typename Body>
void Forward::over(int64_t count, Body&& body) {
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  };
  if (divided()) run(0, count);
  else team_.each(count, 1, run);
}

}  // namespace tinylm::engine
