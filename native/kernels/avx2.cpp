// AVX2 with FMA: no byte dot product, so int8 goes one of three exact ways (measured on Zen 3, 3.24 GHz, see docs):
//   pair-safe block, any batch     u8 x s8 vpmaddubsw without sign step    99 GMAC/s
//   any block, batch               weights widened once to int16, vpmaddwd 82
//   any block, few rows            |w| and sign(w) * a, vpmaddubsw         73
// vpmaddubsw adds two products in saturating int16. Activations stored as a + 127 (0..254) never saturate it where the
// same-sign weights of each adjacent pair (2j, 2j + 1) sum to at most 129 in magnitude: 254 * 129 = 32766.
#include <immintrin.h>

#include "kernels.h"

#define TINYLM_UNROLL _Pragma("GCC unroll 16")
#define TINYLM_NOINLINE __attribute__((noinline))
#define TINYLM_INLINE inline __attribute__((always_inline))

namespace tinylm::kernels {
namespace {

#include "simd_avx2.inl"

// A q8 row: u8 a + 127 [K], then int16 a [K] in quads ordered 0, 2, 1, 3 (what shifts make of packed weights).
constexpr int64_t kCodeBytes = 3;
constexpr int kOffset = 127;

void store_codes(uint8_t* data, int64_t i, int64_t padded, F16 rounded) {
  const __m128i offset = _mm_add_epi8(int8_of(rounded), _mm_set1_epi8(kOffset));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(data + i), offset);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(data + padded + 2 * i), even_odd(int16_of(rounded)));
}

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
TINYLM_INLINE __m256i dot4_half(__m256i sum, __m256i keys, Query4 q) {
  const __m256i pairs = _mm256_maddubs_epi16(q.magnitudes, _mm256_sign_epi8(keys, q.signs));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
TINYLM_INLINE I16 dot4_keys(I16 sum, I16 keys, Query4 q) {
  return {dot4_half(sum.low, keys.low, q), dot4_half(sum.high, keys.high, q)};
}

constexpr int64_t kTileRows = 6;
constexpr int64_t kFloatTileRows = 6, kFloatTileBlocks = 1, kFloatPairBlocks = 3, kFloatSingleBlocks = 4;

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
