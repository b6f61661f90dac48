// AVX2 with the VEX-coded byte dot product (AVX-VNNI): hybrid Intel cores since Alder Lake, Zen 5 without AVX-512.
#if !defined(TINYLM_EMULATED)  // defined by tests/emulate_x86.h
#include <immintrin.h>
#endif

#include "kernels.h"

#define TINYLM_UNROLL _Pragma("GCC unroll 16")
#define TINYLM_NOINLINE __attribute__((noinline))
#define TINYLM_INLINE inline __attribute__((always_inline))

namespace tinylm::kernels {
namespace {

#include "simd_avx2.inl"

// vpdpbusd multiplies unsigned by signed bytes: activations are stored as a + 128.
constexpr int32_t kOffset = 128;
constexpr int64_t kCodeBytes = 1;
constexpr uint8_t kWeightFlip = 0;
TINYLM_INLINE void store_codes(uint8_t* data, F16 rounded) {
  const __m128i flipped = _mm_xor_si128(int8_of(rounded), _mm_set1_epi8(static_cast<char>(0x80)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(data), flipped);
}

struct Quad {
  __m256i v;
};
TINYLM_INLINE Quad broadcast4(const uint8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return {_mm256_set1_epi32(word)};
}
TINYLM_INLINE I16 dot4(I16 sum, Quad a, I16 w) {
  return {_mm256_dpbusd_avx_epi32(sum.low, a.v, w.low), _mm256_dpbusd_avx_epi32(sum.high, a.v, w.high)};
}
TINYLM_INLINE I16 dot4_codes(I16 sum, I16 codes, Quad a) {
  return {_mm256_dpbusd_avx_epi32(sum.low, codes.low, a.v), _mm256_dpbusd_avx_epi32(sum.high, codes.high, a.v)};
}
TINYLM_INLINE I16 low_nibbles(I16 a) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(a.low, mask), _mm256_and_si256(a.high, mask)};
}
TINYLM_INLINE I16 high_nibbles(I16 a) {
  return low_nibbles({_mm256_srli_epi16(a.low, 4), _mm256_srli_epi16(a.high, 4)});
}

// Keys are the unsigned operand.
constexpr int32_t kKeyOffset = 128;
using Query4 = Quad;
TINYLM_INLINE Query4 query4(const uint8_t* p) { return broadcast4(p); }
TINYLM_INLINE I16 dot4_keys(I16 sum, I16 keys, Query4 q) { return dot4_codes(sum, keys, q); }

constexpr int kSums = 4;
constexpr int64_t kTileRows = 6, kTileBlocks = 1;  // 12 sums, 2 weights, 1 activation of 16 registers
constexpr int64_t kFloatTileRows = 6, kFloatTileBlocks = 1, kFloatPairBlocks = 3, kFloatSingleBlocks = 4;

constexpr int kScoreBlocks = 4, kMixSums = 4, kTileSums = 4, kWeighTogether = 1;

#include "generic.inl"
#include "attention.inl"
#include "quads.inl"
#include "layout.inl"
#include "matmul_float.inl"
#include "matmul_tiles.inl"
#include "matmul_dot.inl"
#include "table.inl"

}  // namespace

extern const KernelTable kAvxVnniTable = make_table("avxvnni");

}  // namespace tinylm::kernels
