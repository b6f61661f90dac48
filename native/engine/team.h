// The threads of one replica: persistent workers that run one job together, phase by phase.
//
// A barrier spins for a bounded while (two busy threads meet in well under a microsecond), then sleeps: a neighbour
// that takes a core away costs its share and no more. The system may wake two threads on one core though another is
// idle, or while a neighbour has the other, and leave them there for many steps; so whoever wakes where another of the
// team runs moves on.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace tinylm::engine {

class Team {
 public:
  explicit Team(int size);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return size_; }
  // Threads of the jobs from here on: all, or the caller's only.
  void use_all(bool all) { active_ = all ? size_ : 1; }
  int active() const { return active_; }

  // Runs job(thread) on every active thread, thread 0 being the caller's; returns when all are done. `job` must not
  // throw.
  template <typename Job>
  void run(Job& job) {
    slept_ticks_.store(0, std::memory_order_relaxed);
    if (active_ == 1) return job(0);
    job_ = [](void* context, int thread) { (*static_cast<Job*>(context))(thread); };
    context_ = &job;
    barrier();
    job(0);
    barrier();
  }
  // Ticks that the last job's threads slept while others worked, of all threads together; short waits are none.
  int64_t slept_ticks() const { return slept_ticks_.load(std::memory_order_relaxed); }

  // Inside a job, called by every thread: runs body(begin, end) over chunks of [0, count), each on whichever thread is
  // free, then meets the others. Results must not depend on the chunks.
  template <typename Body>
  void each(int64_t count, int64_t grain, Body&& body) {
    if (active_ == 1) {
      for (int64_t begin = 0; begin < count; begin += grain) body(begin, begin + grain < count ? begin + grain : count);
      return;
    }
    for (int64_t begin; (begin = next_.fetch_add(grain, std::memory_order_relaxed)) < count;)
      body(begin, begin + grain < count ? begin + grain : count);
    barrier();
  }

  // Inside a job, called by every thread: waits for the others.
  void meet() {
    if (active_ > 1) barrier();
  }

 private:
  enum class Start { wait, go, off };

  void barrier(bool within_job = true);
  bool claim_core(uint32_t generation);
  void signal(Start state);
  void start(int thread);
  void work(int thread);

  const int size_;
  int active_;
  void (*job_)(void*, int) = nullptr;
  void* context_ = nullptr;
  bool stop_ = false;
  Start start_ = Start::wait;
  alignas(64) std::atomic<int64_t> next_{0};  // start of the next chunk; the last to arrive at a barrier resets it
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> generation_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<int64_t> slept_ticks_{0};
  std::vector<std::atomic<uint32_t>> claims_;  // by core: the generation in which a thread last woke there
  std::mutex lock_;
  std::condition_variable wake_;
  std::vector<std::thread> threads_;
};

}  // namespace tinylm::engine
