#include "machine_limits.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace tinylm::limits {
namespace {

constexpr int kChains = 12;  // independent sums: covers a latency of 6 at 2 per cycle, leaves registers for operands
constexpr int64_t kRounds = 4'000;  // of kChains instructions per slice: some 10 us
constexpr double kWindow_s = 5e-3;  // short, so that some windows pass without the machine's other work

// One slice of work: runs kRounds x kChains instructions, returns something that depends on all of them.
using Slice = int (*)();

struct Kernel {
  const char* instruction;
  Slice run;
  int64_t macs;  // per instruction (or fixed group of instructions)
};

// Keeps `x` opaque, so that no loop is folded away.
template <typename T>
inline void hide(T& x) {
#if defined(__x86_64__)
  __asm__ volatile("" : "+x"(x));
#elif defined(__aarch64__)
  __asm__ volatile("" : "+w"(x));
#else
  __asm__ volatile("" : "+m"(x));
#endif
}

int scalar_f32() {
  float sums[kChains] = {}, a = 1.0f;
  for (int64_t i = 0; i < kRounds; ++i)
    for (float& sum : sums) {
      sum = sum + a * 0.5f;
      hide(sum);
    }
  return static_cast<int>(sums[0]);
}

#if defined(__x86_64__)
#define TINYLM_ROUNDS(Type, zero, step)                          \
  Type sums[kChains];                                            \
  for (int c = 0; c < kChains; ++c) sums[c] = zero;              \
  for (int64_t i = 0; i < kRounds; ++i) {                        \
    _Pragma("GCC unroll 12") for (int c = 0; c < kChains; ++c) { \
      hide(a);                                                   \
      sums[c] = step;                                            \
    }                                                            \
  }                                                              \
  for (int c = 1; c < kChains; ++c) hide(sums[c]);               \
  hide(sums[0])

__attribute__((target("avx2,fma"))) int avx2_f32() {
  __m256 a = _mm256_set1_ps(1.0f);
  const __m256 b = _mm256_set1_ps(0.5f);
  TINYLM_ROUNDS(__m256, _mm256_setzero_ps(), _mm256_fmadd_ps(a, b, sums[c]));
  return static_cast<int>(_mm256_cvtss_f32(sums[0]));
}
__attribute__((target("avx2,fma"))) int avx2_int8() {
  __m256i a = _mm256_set1_epi8(1);
  const __m256i b = _mm256_set1_epi8(2), one = _mm256_set1_epi16(1);
  TINYLM_ROUNDS(__m256i, _mm256_setzero_si256(),
                _mm256_add_epi32(sums[c], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), one)));
  return _mm256_extract_epi32(sums[0], 0);
}
__attribute__((target("avx2,avxvnni"))) int avxvnni_int8() {
  __m256i a = _mm256_set1_epi8(1);
  const __m256i b = _mm256_set1_epi8(2);
  TINYLM_ROUNDS(__m256i, _mm256_setzero_si256(), _mm256_dpbusd_avx_epi32(sums[c], a, b));
  return _mm256_extract_epi32(sums[0], 0);
}
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
__attribute__((target("avx512f"))) int avx512_f32() {
  __m512 a = _mm512_set1_ps(1.0f);
  const __m512 b = _mm512_set1_ps(0.5f);
  TINYLM_ROUNDS(__m512, _mm512_setzero_ps(), _mm512_fmadd_ps(a, b, sums[c]));
  return static_cast<int>(_mm512_cvtss_f32(sums[0]));
}
__attribute__((target("avx512f,avx512bw,avx512vnni"))) int avx512_int8() {
  __m512i a = _mm512_set1_epi8(1);
  const __m512i b = _mm512_set1_epi8(2);
  TINYLM_ROUNDS(__m512i, _mm512_setzero_si512(), _mm512_dpbusd_epi32(sums[c], a, b));
  return _mm_cvtsi128_si32(_mm512_castsi512_si128(sums[0]));
}
__attribute__((target("avx512f,avx512bw,avx512bf16"))) int avx512_bf16() {
  __m512i a = _mm512_set1_epi16(0x3f80);
  const __m512bh b = (__m512bh)_mm512_set1_epi16(0x3f00);
  TINYLM_ROUNDS(__m512, _mm512_setzero_ps(), _mm512_dpbf16_ps(sums[c], (__m512bh)a, b));
  return static_cast<int>(_mm512_cvtss_f32(sums[0]));
}
#pragma GCC diagnostic pop

Kernel best_kernel(Arithmetic arithmetic) {
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (arithmetic == Arithmetic::int8) {
    if (avx512 && __builtin_cpu_supports("avx512vnni")) return {"avx512 vpdpbusd", avx512_int8, 64};
    if (avx2 && __builtin_cpu_supports("avxvnni")) return {"avx vpdpbusd", avxvnni_int8, 32};
    if (avx2) return {"avx2 vpmaddubsw + vpmaddwd + vpaddd", avx2_int8, 32};
  }
  if (arithmetic == Arithmetic::bf16 && avx512 && __builtin_cpu_supports("avx512bf16"))
    return {"avx512 vdpbf16ps", avx512_bf16, 32};
  if (avx512) return {"avx512 vfmadd f32", avx512_f32, 16};
  if (avx2) return {"avx2 vfmadd f32", avx2_f32, 8};
  return {"scalar f32", scalar_f32, 1};
}
#elif defined(__aarch64__)
int neon_f32() {
  float32x4_t a = vdupq_n_f32(1.0f), b = vdupq_n_f32(0.5f), sums[kChains];
  for (auto& sum : sums) sum = vdupq_n_f32(0.0f);
  for (int64_t i = 0; i < kRounds; ++i) {
    _Pragma("GCC unroll 12") for (int c = 0; c < kChains; ++c) {
      hide(a);
      sums[c] = vfmaq_f32(sums[c], a, b);
    }
  }
  for (auto& sum : sums) hide(sum);
  return static_cast<int>(vgetq_lane_f32(sums[0], 0));
}
Kernel best_kernel(Arithmetic) { return {"neon fmla f32", neon_f32, 4}; }
#else
Kernel best_kernel(Arithmetic) { return {"scalar f32", scalar_f32, 1}; }
#endif

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Runs slices on all threads for `seconds`; returns the slices per second of the best window.
template <typename MakeSlice>
double slices_per_s(int threads, double seconds, MakeSlice make_slice) {
  std::atomic<int> ready{0};
  std::atomic<int64_t> done{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> team;
  for (int t = 0; t < threads; ++t)
    team.emplace_back([&] {
      auto slice = make_slice();
      ++ready;
      while (!stop.load(std::memory_order_relaxed)) {
        slice();
        done.fetch_add(1, std::memory_order_relaxed);
      }
    });
  while (ready.load() < threads) std::this_thread::yield();
  double best = 0;
  for (const double end = now_s() + seconds; now_s() < end;) {
    const double begin = now_s();
    const int64_t before = done.load();
    std::this_thread::sleep_for(std::chrono::duration<double>(kWindow_s));
    const double rate = static_cast<double>(done.load() - before) / (now_s() - begin);
    best = rate > best ? rate : best;
  }
  stop = true;
  for (auto& thread : team) thread.join();
  return best;
}

struct FreeMemory {
  void operator()(uint8_t* p) const { std::free(p); }
};

constexpr size_t kHugePage = size_t{1} << 21;

std::unique_ptr<uint8_t, FreeMemory> working_set(size_t bytes) {
  const size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  auto* p = static_cast<uint8_t*>(std::aligned_alloc(kHugePage, rounded));
#if defined(__linux__)
  madvise(p, rounded, MADV_HUGEPAGE);
#endif
  std::memset(p, 1, rounded);
  return std::unique_ptr<uint8_t, FreeMemory>(p);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) uint64_t read_wide(const uint8_t* p, size_t bytes) {
  __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
  for (size_t i = 0; i + 128 <= bytes; i += 128)
    for (int j = 0; j < 4; ++j)
      sums[j] = _mm256_or_si256(
          sums[j], _mm256_load_si256(reinterpret_cast<const __m256i*>(p + i + 32 * static_cast<size_t>(j))));
  const __m256i all = _mm256_or_si256(_mm256_or_si256(sums[0], sums[1]), _mm256_or_si256(sums[2], sums[3]));
  return static_cast<uint64_t>(_mm256_extract_epi64(all, 0) | _mm256_extract_epi64(all, 3));
}
#endif

uint64_t read_plain(const uint8_t* p, size_t bytes) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i + 64 <= bytes; i += 64)
    for (size_t j = 0; j < 8; ++j) {
      uint64_t word;
      std::memcpy(&word, p + i + 8 * j, 8);
      sums[j] |= word;
    }
  return sums[0] | sums[1] | sums[2] | sums[3] | sums[4] | sums[5] | sums[6] | sums[7];
}

uint64_t read_all(const uint8_t* p, size_t bytes) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return read_wide(p, bytes);
#endif
  return read_plain(p, bytes);
}

}  // namespace

Peak measure_macs(Arithmetic arithmetic, int threads, double seconds) {
  const Kernel kernel = best_kernel(arithmetic);
  const double rate = slices_per_s(threads, seconds, [&] { return [run = kernel.run] { return run(); }; });
  return {kernel.instruction, rate * static_cast<double>(kRounds * kChains * kernel.macs)};
}

double measure_read(size_t working_set_bytes, int threads, double seconds) {
  constexpr size_t kSlice = 64 << 10;
  const size_t slices = (working_set_bytes + kSlice - 1) / kSlice, bytes = (slices ? slices : 1) * kSlice;
  const double rate = slices_per_s(threads, seconds, [&] {
    auto memory = std::make_shared<std::unique_ptr<uint8_t, FreeMemory>>(working_set(bytes));
    return [memory, bytes, at = size_t{0}]() mutable {
      uint64_t seen = read_all(memory->get() + at, kSlice);
      __asm__ volatile("" : "+r"(seen));
      at = (at + kSlice) % bytes;
    };
  });
  return rate * static_cast<double>(kSlice);
}

}  // namespace tinylm::limits
