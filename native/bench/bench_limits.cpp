// Prints the machine's limits for 1 and 2 threads.
#include <cstdio>
#include <initializer_list>

#include "../limits/machine_limits.h"

using namespace tinylm::limits;

int main() {
  for (const int threads : {1, 2}) {
    for (const Arithmetic arithmetic : {Arithmetic::int8, Arithmetic::bf16, Arithmetic::f32}) {
      const Peak peak = measure_macs(arithmetic, threads, 0.5);
      std::printf("%d threads: %-40s %7.1f GMAC/s\n", threads, peak.instruction, peak.macs_per_s / 1e9);
    }
    for (const size_t mb : {1, 8, 24, 60, 200})
      std::printf("%d threads: read %3d MB %29s %7.1f GB/s\n", threads, static_cast<int>(mb), "",
                  measure_read(mb << 20, threads, 0.5) / 1e9);
  }
  return 0;
}
