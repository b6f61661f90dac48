// What this machine can do at most, measured: the yardstick beside every speed figure.
#pragma once

#include <cstddef>

namespace tinylm::limits {

enum class Arithmetic { int8, bf16, f32 };

struct Peak {
  const char* instruction;  // what was measured: the best that this processor has for the type
  double macs_per_s;        // multiply-accumulates, all threads together
};

// Multiply-accumulates per second on register-resident data, `threads` at once; the best of several windows within
// `seconds`.
Peak measure_macs(Arithmetic arithmetic, int threads, double seconds);

// Bytes read per second by `threads` at once, each reading its own `working_set_bytes` over and over; best window.
double measure_read(size_t working_set_bytes, int threads, double seconds);

}  // namespace tinylm::limits
