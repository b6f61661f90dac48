// AVX-512 (F, BW, VL, DQ, VNNI): sixteen lanes are one register, vpdpbusd multiplies 64 bytes.
#if !defined(TINYLM_EMULATED)  // defined by tests/emulate_x86.h
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12's own headers (its bug 105593)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include "kernels.h"

#define TINYLM_UNROLL _Pragma("GCC unroll 16")
#define TINYLM_NOINLINE __attribute__((noinline))
#define TINYLM_INLINE inline __attribute__((always_inline))

namespace tinylm::kernels {
namespace {

struct F16 {
  __m512 v;
};
struct I16 {
  __m512i v;
};

float widen_bf16(uint16_t x) { return __builtin_bit_cast(float, static_cast<uint32_t>(x) << 16); }
uint16_t round_bf16(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

TINYLM_INLINE F16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
TINYLM_INLINE void store(float* p, F16 a) { _mm512_storeu_ps(p, a.v); }
TINYLM_INLINE void store_past(float* p, F16 a) {
  _mm256_stream_ps(p, _mm512_castps512_ps256(a.v));
  _mm256_stream_ps(p + 8, _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a.v), 1)));
}
TINYLM_INLINE F16 set1(float x) { return {_mm512_set1_ps(x)}; }
TINYLM_INLINE F16 add(F16 a, F16 b) { return {_mm512_add_ps(a.v, b.v)}; }
TINYLM_INLINE F16 sub(F16 a, F16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
TINYLM_INLINE F16 mul(F16 a, F16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
TINYLM_INLINE F16 div(F16 a, F16 b) { return {_mm512_div_ps(a.v, b.v)}; }
TINYLM_INLINE F16 fma(F16 a, F16 b, F16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
TINYLM_INLINE F16 max16(F16 a, F16 b) { return {_mm512_max_ps(a.v, b.v)}; }  // exactly a > b ? a : b
TINYLM_INLINE F16 min16(F16 a, F16 b) { return {_mm512_min_ps(a.v, b.v)}; }  // exactly a < b ? a : b
TINYLM_INLINE F16 less_select(F16 a, F16 b, F16 x, F16 y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
}
// Bit i: a >= b in lane i.
TINYLM_INLINE uint32_t at_least(F16 a, F16 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ); }
TINYLM_INLINE F16 abs16(F16 a) {
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(0x7fffffff)))};
}
TINYLM_INLINE F16 exp2_bits(F16 a) {
  return {_mm512_castsi512_ps(
      _mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(a.v), 23), _mm512_set1_epi32(0x3f800000)))};
}

TINYLM_INLINE __m256 upper_half(__m512 a) { return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1)); }
TINYLM_INLINE float fold_add(F16 a) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.v), upper_half(a.v));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
TINYLM_INLINE float fold_max(F16 a) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a.v), upper_half(a.v));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

TINYLM_INLINE int64_t bf16_slot(int64_t lane) { return lane; }
TINYLM_INLINE F16 load_bf16(const uint16_t* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
}
TINYLM_INLINE void store_bf16(uint16_t* p, F16 a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

// The low byte of x + 1.5 * 2^23 is the integer's.
TINYLM_INLINE __m128i int8_of(F16 a) { return _mm512_cvtepi32_epi8(_mm512_castps_si512(a.v)); }
TINYLM_INLINE void store_signed(uint8_t* p, F16 a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), int8_of(a)); }
TINYLM_INLINE int32_t sum_group(const uint8_t* p) {
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m256i quads = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes), _mm256_set1_epi16(1));
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(quads), _mm256_extracti128_si256(quads, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

TINYLM_INLINE I16 zero_int() { return {_mm512_setzero_si512()}; }
TINYLM_INLINE I16 set1_int(int32_t x) { return {_mm512_set1_epi32(x)}; }
TINYLM_INLINE F16 to_float(I16 a) { return {_mm512_cvtepi32_ps(a.v)}; }
TINYLM_INLINE I16 load_int(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
TINYLM_INLINE I16 add_int(I16 a, I16 b) { return {_mm512_add_epi32(a.v, b.v)}; }
TINYLM_INLINE I16 sub_int(I16 a, I16 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
TINYLM_INLINE I16 times_int(I16 a, int32_t x) { return {_mm512_mullo_epi32(a.v, _mm512_set1_epi32(x))}; }

TINYLM_INLINE I16 integers_of(F16 a) {
  return {_mm512_sub_epi32(_mm512_castps_si512(a.v), _mm512_set1_epi32(0x4b400000))};
}
TINYLM_INLINE int32_t fold_int(I16 a) {
  const __m256i upper = _mm256_castps_si256(upper_half(_mm512_castsi512_ps(a.v)));
  const __m256i eight = _mm256_add_epi32(_mm512_castsi512_si256(a.v), upper);
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

// Weights are multiplied as their low and high bytes, each four as four low bytes and four high ones: vpdpbusd takes
// unsigned by signed bytes, so values need neither an offset nor widening (see docs for what it gained over int16).
constexpr int32_t kValueOffset = 0;
TINYLM_INLINE void store_value(uint8_t* p, F16 rounded, int t) {
  const __m512i byte = _mm512_sll_epi32(_mm512_castps_si512(rounded.v), _mm_cvtsi32_si128(8 * t));
  _mm512_store_si512(p, _mm512_mask_mov_epi8(_mm512_load_si512(p), 0x1111111111111111ull << t, byte));
}
TINYLM_INLINE void store_weights(int16_t* p, F16 rounded) {
  const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, -1, -1, -1, -1, -1, -1, -1, -1));
  const __m512i bytes = _mm512_shuffle_epi8(_mm512_castps_si512(rounded.v), order);
  const __m512i fours = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 0, 0, 0, 0), bytes);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_castsi512_si256(fours));
}
using Values4 = __m512i;
TINYLM_INLINE Values4 values4(const uint8_t* v) { return _mm512_load_si512(v); }
struct MixSum {
  __m512i low, high;
};
TINYLM_INLINE MixSum zero_mix() { return {_mm512_setzero_si512(), _mm512_setzero_si512()}; }
TINYLM_INLINE I16 mixed(const MixSum& sum) { return {_mm512_add_epi32(sum.low, _mm512_slli_epi32(sum.high, 8))}; }
TINYLM_INLINE MixSum mix_values4(const MixSum& sum, Values4 values, const int16_t* weights) {
  int32_t fours[2];
  __builtin_memcpy(fours, weights, 8);
  return {_mm512_dpbusd_epi32(sum.low, _mm512_set1_epi32(fours[0]), values),
          _mm512_dpbusd_epi32(sum.high, _mm512_set1_epi32(fours[1]), values)};
}

// vpdpbusd multiplies unsigned by signed bytes: activations are stored as a + 128.
constexpr int32_t kOffset = 128;
constexpr int64_t kCodeBytes = 1;
constexpr uint8_t kWeightFlip = 0;
TINYLM_INLINE void store_codes(uint8_t* data, F16 rounded) {
  const __m128i flipped = _mm_xor_si128(int8_of(rounded), _mm_set1_epi8(static_cast<char>(0x80)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(data), flipped);
}

struct Quad {
  __m512i v;
};
TINYLM_INLINE Quad broadcast4(const uint8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return {_mm512_set1_epi32(word)};
}
TINYLM_INLINE I16 load_weights(const uint8_t* p) { return {_mm512_load_si512(p)}; }
TINYLM_INLINE I16 dot4(I16 sum, Quad a, I16 w) { return {_mm512_dpbusd_epi32(sum.v, a.v, w.v)}; }
TINYLM_INLINE I16 dot4_codes(I16 sum, I16 codes, Quad a) { return {_mm512_dpbusd_epi32(sum.v, codes.v, a.v)}; }
TINYLM_INLINE I16 low_nibbles(I16 a) { return {_mm512_and_si512(a.v, _mm512_set1_epi8(15))}; }
TINYLM_INLINE I16 high_nibbles(I16 a) { return {_mm512_and_si512(_mm512_srli_epi16(a.v, 4), _mm512_set1_epi8(15))}; }

// Keys are the unsigned operand.
constexpr int32_t kKeyOffset = 128;
using Query4 = Quad;
TINYLM_INLINE Query4 query4(const uint8_t* p) { return broadcast4(p); }
TINYLM_INLINE I16 dot4_keys(I16 sum, I16 keys, Query4 q) { return dot4_codes(sum, keys, q); }

constexpr int kSums = 8;
constexpr int kScoreBlocks = 8, kMixSums = 8, kTileSums = 16, kWeighTogether = 4;
constexpr int64_t kTileRows = 8, kTileBlocks = 2;  // 16 sums, 2 weights, 1 activation of 32 registers
constexpr int64_t kFloatTileRows = 8, kFloatTileBlocks = 2, kFloatPairBlocks = 4, kFloatSingleBlocks = 8;

#include "generic.inl"
#include "attention.inl"
#include "quads.inl"
#include "layout.inl"
#include "matmul_float.inl"
#include "matmul_tiles.inl"
#include "matmul_dot.inl"
#include "table.inl"

}  // namespace

extern const KernelTable kAvx512Table = make_table("avx512");

}  // namespace tinylm::kernels
