// How many threads a lone row is quicker on: all of a team, or one. The answer changes while a text is written (a
// neighbour takes a core, a host moves it), so it is measured: now and then some steps go the other way.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tinylm::engine {

class Pace {
 public:
  // Whether the next step should use all threads.
  bool all_threads() const { return all_ != trying_; }

  // What that step took.
  void record(int64_t ticks) {
    if (++steps_ == 0) return;
    ticks_ += ticks;
    if (!trying_) {
      if (steps_ == interval_) try_the_other();
    } else if (steps_ >= kFewestSteps && ticks_ >= usual_ * steps_) {
      settle(false);
    } else if (steps_ == kTrialSteps) {
      settle(ticks_ * 20 < usual_ * steps_ * 19);  // a twentieth quicker, or it is not worth changing
    }
  }

 private:
  static constexpr int64_t kFewestSteps = 4, kTrialSteps = 128;       // a trial that has gained nothing ends early
  static constexpr int64_t kFirstInterval = 16, kLastInterval = 256;  // steps between trials (all four chosen)

  void try_the_other() {
    usual_ = ticks_ / steps_;
    trying_ = true;
    steps_ = -1, ticks_ = 0;  // the first step wakes threads and does not count
  }

  void settle(bool quicker) {
    all_ ^= quicker;
    interval_ = quicker ? kFirstInterval : std::min(2 * interval_, kLastInterval);
    trying_ = false;
    steps_ = -1, ticks_ = 0;
  }

  bool all_ = true, trying_ = false;
  int64_t steps_ = 0, ticks_ = 0, usual_ = 0, interval_ = kFirstInterval;
};

}  // namespace tinylm::engine
