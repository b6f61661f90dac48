// Which tables this build has and this machine can run. Compiled without instruction set flags, and no intrinsics here.
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace tinylm::kernels {

extern const KernelTable kScalarTable;
#if defined(__x86_64__)
#if defined(TINYLM_HAVE_AVX512)
extern const KernelTable kAvx512Table;
#endif
#if defined(TINYLM_HAVE_AVXVNNI)
extern const KernelTable kAvxVnniTable;
#endif
#if defined(TINYLM_HAVE_AVX2)
extern const KernelTable kAvx2Table;
#endif
#elif defined(__aarch64__)
#if defined(TINYLM_HAVE_NEON_DOT)
extern const KernelTable kNeonDotTable;
#endif
#if defined(TINYLM_HAVE_NEON)
extern const KernelTable kNeonTable;
#endif
#endif

namespace {

struct Machine {
  bool avx2 = false, avxvnni = false, avx512 = false, neon = false, neon_dot = false;
};

#if defined(__x86_64__)
struct Leaf {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

Leaf cpuid(uint32_t leaf, uint32_t subleaf) {
  Leaf r;
  if (!__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d)) return Leaf{};
  return r;
}

bool bit(uint32_t word, int index) { return (word >> index & 1) != 0; }

// Registers whose state the operating system saves (XCR0); 0 where it saves none beyond SSE.
uint64_t saved_state(const Leaf& features) {
  if (!bit(features.c, 27)) return 0;
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

Machine detect() {
#if defined(TINYLM_EMULATED)  // tests: the tables are compiled against an emulation, so every machine runs them
  return Machine{true, true, true, false, false};
#endif
  const Leaf one = cpuid(1, 0), seven = cpuid(7, 0), seven_one = seven.a >= 1 ? cpuid(7, 1) : Leaf{};
  const uint64_t saved = saved_state(one);
  Machine m;
  const bool ymm = (saved & 0x06) == 0x06, zmm = (saved & 0xe6) == 0xe6;
  m.avx2 = ymm && bit(one.c, 12) && bit(one.c, 28) && bit(one.c, 29) && bit(seven.b, 5);  // FMA, AVX, F16C, AVX2
  m.avxvnni = m.avx2 && bit(seven_one.a, 4);
  m.avx512 = m.avx2 && zmm && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 30) && bit(seven.b, 31) &&
             bit(seven.c, 11);  // F, DQ, BW, VL, VNNI
  return m;
}
#elif defined(__aarch64__)
Machine detect() {
  Machine m;
  m.neon = true;  // part of the base architecture
#if defined(__linux__)
  m.neon_dot = (getauxval(AT_HWCAP) >> 20 & 1) != 0;  // HWCAP_ASIMDDP
#elif defined(__APPLE__)
  m.neon_dot = true;  // every Apple core that runs macOS
#endif
  return m;
}
#else
Machine detect() { return Machine{}; }
#endif

bool equal(const char* a, const char* b) {
  while (*a && *a == *b) ++a, ++b;
  return *a == *b;
}

struct Found {
  const KernelTable* tables[6] = {};
  size_t count = 0;
};

Found find_all() {
  [[maybe_unused]] const Machine m = detect();
  Found found;
  [[maybe_unused]] const auto take = [&](bool runs, const KernelTable& table) {
    if (runs) found.tables[found.count++] = &table;
  };
#if defined(__x86_64__)
#if defined(TINYLM_HAVE_AVX512)
  take(m.avx512, kAvx512Table);
#endif
#if defined(TINYLM_HAVE_AVXVNNI)
  take(m.avxvnni, kAvxVnniTable);
#endif
#if defined(TINYLM_HAVE_AVX2)
  take(m.avx2, kAvx2Table);
#endif
#elif defined(__aarch64__)
#if defined(TINYLM_HAVE_NEON_DOT)
  take(m.neon_dot, kNeonDotTable);
#endif
#if defined(TINYLM_HAVE_NEON)
  take(m.neon, kNeonTable);
#endif
#endif
  take(true, kScalarTable);
  return found;
}

}  // namespace

size_t available_kernels(const KernelTable** tables, size_t capacity) {
  const Found found = find_all();
  for (size_t i = 0; i < found.count && i < capacity; ++i) tables[i] = found.tables[i];
  return found.count;
}

const KernelTable* find_kernels(const char* name) {
  const Found found = find_all();
  if (equal(name, "auto")) return found.tables[0];
  for (size_t i = 0; i < found.count; ++i)
    if (equal(name, found.tables[i]->name)) return found.tables[i];
  return nullptr;
}

}  // namespace tinylm::kernels
