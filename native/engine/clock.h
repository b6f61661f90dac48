// Time: steady nanoseconds for timestamps, and cheaper ticks for the counters inside a step.
#pragma once

#include <chrono>
#include <cstdint>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace tinylm::engine {

inline int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// A counter of constant rate, about 8 ns to read; its unit is known only relative to steady_ns (see Engine::stats).
inline int64_t ticks() {
#if defined(__x86_64__)
  return static_cast<int64_t>(__rdtsc());
#elif defined(__aarch64__)
  int64_t value;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(value));
  return value;
#else
  return steady_ns();
#endif
}

}  // namespace tinylm::engine
