// How many threads steps of one kind are quicker on: all of a team, or one. The answer changes while a text is written
// (a neighbour takes a core, a host moves it), so it is measured: now and then some steps go the other way.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tinylm::engine {

class Pace {
 public:
  // Whether the next step should use all threads.
  bool all_threads() const { return all_ != trying_; }

  // What that step took, and what its threads worked in it, all together: 0 where that is not known. Both may be those
  // of one row of the step.
  void record(int64_t ticks, int64_t worked) {
    if (++steps_ == 0) return;
    ticks_ += ticks, worked_ += worked;
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
  static constexpr int64_t kFirstInterval = 16, kLastInterval = 256;  // steps between trials (all five chosen)
  static constexpr int64_t kMostWorkedTenths = 16;  // threads that work more than this share of the time beat one

  void try_the_other() {
    usual_ = ticks_ / steps_;
    trying_ = worked_ * 10 < ticks_ * kMostWorkedTenths;
    restart();
  }

  void settle(bool quicker) {
    all_ ^= quicker;
    interval_ = quicker ? kFirstInterval : std::min(2 * interval_, kLastInterval);
    trying_ = false;
    restart();
  }

  void restart() { steps_ = -1, ticks_ = worked_ = 0; }  // a first step wakes threads and does not count

  bool all_ = true, trying_ = false;
  int64_t steps_ = 0, ticks_ = 0, worked_ = 0, usual_ = 0, interval_ = kFirstInterval;
};

}  // namespace tinylm::engine
