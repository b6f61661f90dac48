// One replica: a thread team with slots of its own over the shared weights; continuous batching.
//
// A step feeds the busy slots: one token where text is under way, a chunk of the prompt where it is not and there is
// room, all in one forward pass. Slots fill as soon as they free.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "forward.h"
#include "sampler.h"
#include "slot.h"

namespace tinylm::engine {

// Where a replica gets work and leaves results.
class Desk {
 public:
  virtual ~Desk() = default;
  // The next request for a replica with `active` busy slots, null if there is none for it now. With `wait`, blocks
  // until there is one; null then means the end.
  virtual std::shared_ptr<Request> next_request(int64_t active, bool wait) = 0;
  virtual void deliver(std::vector<Result>& results) = 0;  // leaves `results` empty
};

struct ReplicaStats {
  int64_t steps = 0, rows = 0, new_tokens = 0, busy_ns = 0;
  PartTicks ticks{};
};

class Replica final : private LogitSink {
 public:
  Replica(const Weights& weights, Desk& desk, int threads, int64_t slots);

  // Works until the desk says that it is over.
  void run();
  ReplicaStats stats() const;
  size_t cache_bytes() const { return cache_.bytes(); }
  size_t buffer_bytes() const { return forward_.bytes(); }

 private:
  struct Wanted {  // one row of logits of the running step
    size_t slot;
    int64_t position;  // of the row's token
    bool sample;
  };

  void step();
  void drop_cancelled();
  bool admit(bool wait);
  struct Place {
    size_t home;     // a free slot
    int64_t own;     // tokens that its cache begins with
    size_t donor;    // a slot to copy the beginning from, if not none
    int64_t shared;  // tokens that it has, or will have
  };

  Place find_place(const Request& request, int64_t capacity) const;
  void place(std::shared_ptr<Request> request);
  void make_room(size_t index);
  void copy_prefix(size_t index);
  void collect_segments();
  void add_segment(size_t slot, int64_t count);
  void apply(int64_t now_ns);
  void finish(size_t slot, Finish reason, int64_t now_ns);
  int64_t wanted(int64_t row) const override;
  void take(int thread, int64_t row, float* logits, float* maxima, float floor) override;
  void count(int64_t started_ns, int64_t now_ns);

  const Weights& weights_;
  Desk& desk_;
  Team team_;
  KvCache cache_;
  Forward forward_;
  std::vector<Sampler> samplers_;  // per thread
  std::vector<Slot> slots_;
  int64_t active_ = 0;
  std::vector<size_t> order_;  // busy slots in order of admission

  std::vector<Segment> segments_;
  std::vector<Wanted> wanted_;
  std::vector<int32_t> sampled_;  // per wanted row
  std::vector<float> log_probs_;  // per wanted row
  std::vector<Result> results_;

  std::array<std::atomic<int64_t>, 9> counters_{};  // steps, rows, new tokens, busy ns, then ticks by part
};

}  // namespace tinylm::engine
