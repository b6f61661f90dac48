// AVX2 with FMA: no byte dot product. vpmaddubsw multiplies unsigned by signed bytes and adds two products in
// saturating int16. Weights are stored as w + 128 (1..255), so a pair of activations that sums to at most 128 in
// magnitude cannot saturate it: 255 * 128 < 2^15. Of each pair that sums to more, about half is taken off and kept in a
// list of spilled quads, whose products are added apart. Exact for every weight; for normally distributed activations
// one quad in nineteen is spilled. Against widening weights to int16 and vpmaddwd: see docs/ENGINE-log.md.
#include <immintrin.h>

#include "kernels.h"

#define TINYLM_UNROLL _Pragma("GCC unroll 16")
#define TINYLM_NOINLINE __attribute__((noinline))
#define TINYLM_INLINE inline __attribute__((always_inline))

namespace tinylm::kernels {
namespace {

#include "simd_avx2.inl"

// A q8 row: int8 a [K], then up to K / 4 spilled quads of 8 bytes.
constexpr int64_t kCodeBytes = 3;
constexpr uint8_t kWeightFlip = 0x80;
constexpr int32_t kWeightOffset = 128;
TINYLM_INLINE void store_codes(uint8_t* data, F16 rounded) { store_signed(data, rounded); }

// |q| and sign(q) * k, so that a pair sums to at most 2 * 127 * 127 < 2^15.
constexpr int32_t kKeyOffset = 0;
struct Query4 {
  __m256i signs, magnitudes;
};
TINYLM_INLINE Query4 query4(const uint8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  const __m256i four = _mm256_set1_epi32(word);
  return {four, _mm256_abs_epi8(four)};
}
TINYLM_INLINE __m256i key_half(__m256i sum, __m256i keys, Query4 q) {
  const __m256i pairs = _mm256_maddubs_epi16(q.magnitudes, _mm256_sign_epi8(keys, q.signs));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
TINYLM_INLINE I16 dot4_keys(I16 sum, I16 keys, Query4 q) {
  return {key_half(sum.low, keys.low, q), key_half(sum.high, keys.high, q)};
}

constexpr int64_t kTileRows = 6;
constexpr int64_t kFloatTileRows = 6, kFloatTileBlocks = 1, kFloatPairBlocks = 3, kFloatSingleBlocks = 4;

constexpr int kScoreBlocks = 4, kMixSums = 4, kTileSums = 4, kWeighTogether = 1;

#include "generic.inl"
#include "attention.inl"
#include "quads.inl"
#include "layout.inl"
#include "matmul_float.inl"
#include "matmul_tiles.inl"
#include "matmul_avx2.inl"
#include "table.inl"

}  // namespace

extern const KernelTable kAvx2Table = make_table("avx2");

}  // namespace tinylm::kernels
