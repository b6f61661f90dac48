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
  const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15, 0, 1, 4, 5, 2, 3, 6, 7, 8,
                                         9, 12, 13, 10, 11, 14, 15);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(data + padded + 2 * i), _mm256_shuffle_epi8(int16_of(rounded), order));
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
