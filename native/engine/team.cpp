#include "team.h"

#include "clock.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace tinylm::engine {

namespace {

// About 50 microseconds, the cost of one futex wake-up here (measured 2026-11: 45 us).
constexpr int kSpins = 2000;
constexpr int kCores = 1024;  // of the cores beyond, as of other systems' cores, nothing is known

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// The number of the calling thread's core, or -1 where that is not known.
int current_core() {
#if defined(__linux__)
  const int core = sched_getcpu();
  return core < kCores ? core : -1;
#else
  return -1;
#endif
}

// Moves the calling thread to a core for which `taken` does not hold, if it may run on one. What it may run on stays as
// it was.
template <typename Taken>
void leave_core(const Taken& taken) {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  cpu_set_t others = allowed;
  for (int core = 0; core < kCores; ++core)
    if (CPU_ISSET(core, &others) && taken(core)) CPU_CLR(core, &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0) return;
  sched_setaffinity(0, sizeof allowed, &allowed);
#else
  (void)taken;
#endif
}

}  // namespace

// Threads wait for the start signal, so that a failure to make the last one can still call off the others.
Team::Team(int size) : size_(size), active_(size), claims_(size > 1 ? kCores : 0) {
  try {
    threads_.reserve(static_cast<size_t>(size - 1));
    for (int thread = 1; thread < size; ++thread) threads_.emplace_back([this, thread] { start(thread); });
  } catch (...) {
    signal(Start::off);
    for (std::thread& thread : threads_) thread.join();
    throw;
  }
  signal(Start::go);
}

Team::~Team() {
  if (size_ == 1) return;
  stop_ = true;
  barrier();
  for (std::thread& thread : threads_) thread.join();
}

void Team::signal(Start state) {
  const std::lock_guard<std::mutex> hold(lock_);
  start_ = state;
  wake_.notify_all();
}

void Team::start(int thread) {
  {
    std::unique_lock<std::mutex> hold(lock_);
    wake_.wait(hold, [&] { return start_ != Start::wait; });
    if (start_ == Start::off) return;
  }
  work(thread);
}

void Team::work(int thread) {
  while (true) {
    barrier(false);
    if (stop_) return;
    job_(context_, thread);
    barrier();
  }
}

void Team::barrier(bool within_job) {
  const uint32_t generation = generation_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    arrived_.store(0, std::memory_order_relaxed);
    next_.store(0, std::memory_order_relaxed);
    generation_.store(generation + 1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) {
      claim_core(generation + 1);
      const std::lock_guard<std::mutex> hold(lock_);  // a sleeper is either before its check or inside wait
      wake_.notify_all();
    }
    return;
  }
  for (int spin = 0; spin < kSpins; ++spin) {
    if (generation_.load(std::memory_order_acquire) != generation) return;
    pause();
  }
  const int64_t begin = ticks();
  std::unique_lock<std::mutex> hold(lock_);
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  wake_.wait(hold, [&] { return generation_.load(std::memory_order_seq_cst) != generation; });
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
  hold.unlock();
  if (within_job) slept_ticks_.fetch_add(ticks() - begin, std::memory_order_relaxed);
  const uint32_t woken = generation + 1;
  if (claim_core(woken)) return;
  leave_core([&](int core) { return claims_[static_cast<size_t>(core)].load(std::memory_order_relaxed) == woken; });
}

// Returns false if another thread of the team has woken on this core since `generation` began, or woke the others from
// it.
bool Team::claim_core(uint32_t generation) {
  const int core = current_core();
  return core < 0 || claims_[static_cast<size_t>(core)].exchange(generation, std::memory_order_relaxed) != generation;
}

}  // namespace tinylm::engine
