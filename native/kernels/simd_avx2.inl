// Sixteen lanes as two 256-bit registers (AVX2, FMA, F16C); meaning of each function: scalar.cpp.

struct F16 {
  __m256 low, high;
};

float widen_bf16(uint16_t x) { return __builtin_bit_cast(float, static_cast<uint32_t>(x) << 16); }
uint16_t round_bf16(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

TINYLM_INLINE F16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
TINYLM_INLINE void store(float* p, F16 a) {
  _mm256_storeu_ps(p, a.low);
  _mm256_storeu_ps(p + 8, a.high);
}
TINYLM_INLINE void store_past(float* p, F16 a) {
  _mm256_stream_ps(p, a.low);
  _mm256_stream_ps(p + 8, a.high);
}
TINYLM_INLINE F16 set1(float x) {
  const __m256 v = _mm256_set1_ps(x);
  return {v, v};
}
TINYLM_INLINE F16 add(F16 a, F16 b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
TINYLM_INLINE F16 sub(F16 a, F16 b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
TINYLM_INLINE F16 mul(F16 a, F16 b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
TINYLM_INLINE F16 div(F16 a, F16 b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
TINYLM_INLINE F16 fma(F16 a, F16 b, F16 c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
// vmaxps is exactly a > b ? a : b.
TINYLM_INLINE F16 max16(F16 a, F16 b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
// vminps is exactly a < b ? a : b.
TINYLM_INLINE F16 min16(F16 a, F16 b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
TINYLM_INLINE F16 less_select(F16 a, F16 b, F16 x, F16 y) {
  return {_mm256_blendv_ps(y.low, x.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
          _mm256_blendv_ps(y.high, x.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ))};
}
// Bit i: a >= b in lane i.
TINYLM_INLINE uint32_t at_least(F16 a, F16 b) {
  const int low = _mm256_movemask_ps(_mm256_cmp_ps(a.low, b.low, _CMP_GE_OQ));
  const int high = _mm256_movemask_ps(_mm256_cmp_ps(a.high, b.high, _CMP_GE_OQ));
  return static_cast<uint32_t>(low | high << 8);
}
TINYLM_INLINE F16 abs16(F16 a) {
  const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return {_mm256_and_ps(a.low, mask), _mm256_and_ps(a.high, mask)};
}
TINYLM_INLINE __m256 exp2_half(__m256 a) {
  return _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(a), 23), _mm256_set1_epi32(0x3f800000)));
}
TINYLM_INLINE F16 exp2_bits(F16 a) { return {exp2_half(a.low), exp2_half(a.high)}; }

TINYLM_INLINE float fold_add(F16 a) {
  const __m256 eight = _mm256_add_ps(a.low, a.high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
TINYLM_INLINE float fold_max(F16 a) {
  const __m256 eight = _mm256_max_ps(a.low, a.high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// Sixteen bf16 lie as eight 32-bit words: lanes 0..7 in the low halves, 8..15 in the high ones, so that a load and one
// operation give a register of floats.
TINYLM_INLINE int64_t bf16_slot(int64_t lane) { return lane < 8 ? 2 * lane : 2 * (lane - 8) + 1; }
TINYLM_INLINE F16 load_bf16(const uint16_t* p) {
  const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(words, 16)),
          _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(static_cast<int>(0xffff0000u))))};
}
TINYLM_INLINE __m256i round_bf16_half(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
}
TINYLM_INLINE void store_bf16(uint16_t* p, F16 a) {
  const __m256i low = _mm256_srli_epi32(round_bf16_half(a.low), 16);
  const __m256i high = _mm256_and_si256(round_bf16_half(a.high), _mm256_set1_epi32(static_cast<int>(0xffff0000u)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_or_si256(low, high));
}

// The integers of a (held as x + 1.5 * 2^23) as sixteen int16 in lane order.
TINYLM_INLINE __m256i int16_of(F16 a) {
  const __m256i magic = _mm256_set1_epi32(0x4b400000);
  const __m256i packed = _mm256_packs_epi32(_mm256_sub_epi32(_mm256_castps_si256(a.low), magic),
                                            _mm256_sub_epi32(_mm256_castps_si256(a.high), magic));
  return _mm256_permute4x64_epi64(packed, 0xd8);
}
TINYLM_INLINE __m128i int8_of(F16 a) {
  const __m256i words = int16_of(a);
  return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}
TINYLM_INLINE void store_signed(uint8_t* p, F16 a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), int8_of(a)); }
TINYLM_INLINE int32_t sum_group(const uint8_t* p) {
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
  const __m256i quads = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(quads), _mm256_extracti128_si256(quads, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

// Sixteen int32 and their conversion.
struct I16 {
  __m256i low, high;
};
TINYLM_INLINE I16 zero_int() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
TINYLM_INLINE F16 to_float(I16 a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }
TINYLM_INLINE I16 load_int(const int32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
}
TINYLM_INLINE void store_int(int32_t* p, I16 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.low);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), a.high);
}
TINYLM_INLINE I16 sub_int(I16 a, I16 b) { return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)}; }
TINYLM_INLINE I16 add_int(I16 a, I16 b) { return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)}; }
TINYLM_INLINE I16 set1_int(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
TINYLM_INLINE I16 times_int(I16 a, int32_t x) {
  return {_mm256_mullo_epi32(a.low, _mm256_set1_epi32(x)), _mm256_mullo_epi32(a.high, _mm256_set1_epi32(x))};
}

TINYLM_INLINE I16 load_weights(const uint8_t* p) {
  return {_mm256_load_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_load_si256(reinterpret_cast<const __m256i*>(p + 32))};
}
TINYLM_INLINE I16 integers_of(F16 a) {
  const __m256i magic = _mm256_set1_epi32(0x4b400000);
  return {_mm256_sub_epi32(_mm256_castps_si256(a.low), magic), _mm256_sub_epi32(_mm256_castps_si256(a.high), magic)};
}
TINYLM_INLINE int32_t fold_int(I16 a) {
  const __m256i eight = _mm256_add_epi32(a.low, a.high);
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

// Each four int16 in the order 0, 2, 1, 3: what masking and shifting make of four bytes.
TINYLM_INLINE __m256i even_odd(__m256i words) {
  const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15, 0, 1, 4, 5, 2, 3, 6, 7,
                                         8, 9, 12, 13, 10, 11, 14, 15);
  return _mm256_shuffle_epi8(words, order);
}

// Values of a q8 cache are stored as v + 128: bytes 0 and 2 by a mask, 1 and 3 by a shift, then int16 products in
// pairs.
constexpr int32_t kValueOffset = 128;
TINYLM_INLINE void store_value_half(uint8_t* p, __m256 rounded, __m128i shift) {
  const __m256i code = _mm256_add_epi32(_mm256_castps_si256(rounded), _mm256_set1_epi32(kValueOffset));
  const __m256i mask = _mm256_sll_epi32(_mm256_set1_epi32(255), shift);
  __m256i* words = reinterpret_cast<__m256i*>(p);
  _mm256_store_si256(words, _mm256_blendv_epi8(_mm256_load_si256(words), _mm256_sll_epi32(code, shift), mask));
}
TINYLM_INLINE void store_value(uint8_t* p, F16 rounded, int t) {
  const __m128i shift = _mm_cvtsi32_si128(8 * t);
  store_value_half(p, rounded.low, shift);
  store_value_half(p + 32, rounded.high, shift);
}
TINYLM_INLINE void store_weights(int16_t* p, F16 rounded) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), even_odd(int16_of(rounded)));
}
struct Half4 {
  __m256i even, odd;
};
struct Values4 {
  Half4 low, high;
};
TINYLM_INLINE Half4 half4(const uint8_t* v) {
  const __m256i four = _mm256_load_si256(reinterpret_cast<const __m256i*>(v));
  return {_mm256_and_si256(four, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(four, 8)};
}
TINYLM_INLINE Values4 values4(const uint8_t* v) { return {half4(v), half4(v + 32)}; }
TINYLM_INLINE __m256i mix_half4(__m256i sum, const Half4& values, __m256i even, __m256i odd) {
  const __m256i first = _mm256_madd_epi16(values.even, even), second = _mm256_madd_epi16(values.odd, odd);
  return _mm256_add_epi32(sum, _mm256_add_epi32(first, second));
}
using MixSum = I16;
TINYLM_INLINE MixSum zero_mix() { return zero_int(); }
TINYLM_INLINE I16 mixed(const MixSum& sum) { return sum; }
TINYLM_INLINE I16 mix_values4(I16 sum, const Values4& values, const int16_t* weights) {
  int32_t pairs[2];
  __builtin_memcpy(pairs, weights, 8);
  const __m256i even = _mm256_set1_epi32(pairs[0]), odd = _mm256_set1_epi32(pairs[1]);
  return {mix_half4(sum.low, values.low, even, odd), mix_half4(sum.high, values.high, even, odd)};
}
