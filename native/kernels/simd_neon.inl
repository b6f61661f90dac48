// Sixteen lanes as four 128-bit registers (AArch64); meaning of each function: scalar.cpp.

struct F16 {
  float32x4_t v[4];
};
struct I16 {
  int32x4_t v[4];
};

float widen_bf16(uint16_t x) { return __builtin_bit_cast(float, static_cast<uint32_t>(x) << 16); }
uint16_t round_bf16(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

TINYLM_INLINE F16 load(const float* p) {
  return {{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
}
TINYLM_INLINE void store(float* p, F16 a) {
  vst1q_f32(p, a.v[0]);
  vst1q_f32(p + 4, a.v[1]);
  vst1q_f32(p + 8, a.v[2]);
  vst1q_f32(p + 12, a.v[3]);
}
TINYLM_INLINE void store_past(float* p, F16 a) { store(p, a); }
TINYLM_INLINE F16 set1(float x) {
  const float32x4_t v = vdupq_n_f32(x);
  return {{v, v, v, v}};
}

template <typename Function>
TINYLM_INLINE F16 quarters(Function f) {
  return {{f(0), f(1), f(2), f(3)}};
}
template <typename Function>
TINYLM_INLINE I16 int_quarters(Function f) {
  return {{f(0), f(1), f(2), f(3)}};
}

TINYLM_INLINE F16 add(F16 a, F16 b) {
  return quarters([&](int i) { return vaddq_f32(a.v[i], b.v[i]); });
}
TINYLM_INLINE F16 sub(F16 a, F16 b) {
  return quarters([&](int i) { return vsubq_f32(a.v[i], b.v[i]); });
}
TINYLM_INLINE F16 mul(F16 a, F16 b) {
  return quarters([&](int i) { return vmulq_f32(a.v[i], b.v[i]); });
}
TINYLM_INLINE F16 div(F16 a, F16 b) {
  return quarters([&](int i) { return vdivq_f32(a.v[i], b.v[i]); });
}
TINYLM_INLINE F16 fma(F16 a, F16 b, F16 c) {
  return quarters([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
}
// Not vmaxq, which answers NaN where either is one.
TINYLM_INLINE float32x4_t max4(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
TINYLM_INLINE F16 max16(F16 a, F16 b) {
  return quarters([&](int i) { return max4(a.v[i], b.v[i]); });
}
TINYLM_INLINE F16 min16(F16 a, F16 b) {
  return quarters([&](int i) { return vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
}
TINYLM_INLINE F16 less_select(F16 a, F16 b, F16 x, F16 y) {
  return quarters([&](int i) { return vbslq_f32(vcltq_f32(a.v[i], b.v[i]), x.v[i], y.v[i]); });
}
// Bit i: a >= b in lane i.
TINYLM_INLINE uint32_t at_least(F16 a, F16 b) {
  const uint32_t bits[4] = {1, 2, 4, 8};
  uint32_t set = 0;
  for (int i = 0; i < 4; ++i) set |= vaddvq_u32(vandq_u32(vcgeq_f32(a.v[i], b.v[i]), vld1q_u32(bits))) << 4 * i;
  return set;
}
TINYLM_INLINE F16 abs16(F16 a) {
  return quarters([&](int i) { return vabsq_f32(a.v[i]); });
}
TINYLM_INLINE F16 exp2_bits(F16 a) {
  return quarters([&](int i) {
    return vreinterpretq_f32_u32(vaddq_u32(vshlq_n_u32(vreinterpretq_u32_f32(a.v[i]), 23), vdupq_n_u32(0x3f800000)));
  });
}
TINYLM_INLINE float fold_add(F16 a) {
  const float32x4_t four = vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
TINYLM_INLINE float fold_max(F16 a) {
  const float32x4_t four = max4(max4(a.v[0], a.v[2]), max4(a.v[1], a.v[3]));
  const float32x4_t two = max4(four, vextq_f32(four, four, 2));
  return vgetq_lane_f32(max4(two, vextq_f32(two, two, 1)), 0);
}

TINYLM_INLINE int64_t bf16_slot(int64_t lane) { return lane; }
TINYLM_INLINE F16 load_bf16(const uint16_t* p) {
  return quarters([&](int i) { return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vld1_u16(p + 4 * i)), 16)); });
}
TINYLM_INLINE void store_bf16(uint16_t* p, F16 a) {
  for (int i = 0; i < 4; ++i) {
    const uint32x4_t bits = vreinterpretq_u32_f32(a.v[i]);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    vst1_u16(p + 4 * i, vshrn_n_u32(vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16));
  }
}

// The low byte of x + 1.5 * 2^23 is the integer's.
TINYLM_INLINE void store_signed(uint8_t* p, F16 a) {
  const uint16x8_t low =
      vcombine_u16(vmovn_u32(vreinterpretq_u32_f32(a.v[0])), vmovn_u32(vreinterpretq_u32_f32(a.v[1])));
  const uint16x8_t high =
      vcombine_u16(vmovn_u32(vreinterpretq_u32_f32(a.v[2])), vmovn_u32(vreinterpretq_u32_f32(a.v[3])));
  vst1q_u8(p, vcombine_u8(vmovn_u16(low), vmovn_u16(high)));
}
TINYLM_INLINE int32_t sum_group(const uint8_t* p) {
  const int8_t* bytes = reinterpret_cast<const int8_t*>(p);
  return vaddlvq_s8(vld1q_s8(bytes)) + vaddlvq_s8(vld1q_s8(bytes + 16));
}

TINYLM_INLINE I16 set1_int(int32_t x) {
  const int32x4_t v = vdupq_n_s32(x);
  return {{v, v, v, v}};
}
TINYLM_INLINE I16 zero_int() { return set1_int(0); }
TINYLM_INLINE F16 to_float(I16 a) {
  return quarters([&](int i) { return vcvtq_f32_s32(a.v[i]); });
}
TINYLM_INLINE I16 load_int(const int32_t* p) {
  return int_quarters([&](int i) { return vld1q_s32(p + 4 * i); });
}
TINYLM_INLINE I16 add_int(I16 a, I16 b) {
  return int_quarters([&](int i) { return vaddq_s32(a.v[i], b.v[i]); });
}
TINYLM_INLINE I16 sub_int(I16 a, I16 b) {
  return int_quarters([&](int i) { return vsubq_s32(a.v[i], b.v[i]); });
}
TINYLM_INLINE I16 times_int(I16 a, int32_t x) {
  return int_quarters([&](int i) { return vmulq_n_s32(a.v[i], x); });
}

// Both operands are signed: activations are stored as they are.
constexpr int32_t kOffset = 0;
constexpr int64_t kCodeBytes = 1;
constexpr uint8_t kWeightFlip = 0;
TINYLM_INLINE void store_codes(uint8_t* data, F16 rounded) { store_signed(data, rounded); }

struct Quad {
  int8x16_t v;
};
TINYLM_INLINE Quad broadcast4(const uint8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return {vreinterpretq_s8_s32(vdupq_n_s32(word))};
}
TINYLM_INLINE I16 load_weights(const uint8_t* p) {
  return int_quarters([&](int i) { return vreinterpretq_s32_u8(vld1q_u8(p + 16 * i)); });
}
#if defined(__ARM_FEATURE_DOTPROD)
TINYLM_INLINE int32x4_t dot4_quarter(int32x4_t sum, int8x16_t a, int8x16_t b) { return vdotq_s32(sum, a, b); }
#else
TINYLM_INLINE int32x4_t dot4_quarter(int32x4_t sum, int8x16_t a, int8x16_t b) {
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
  const int32x4_t high = vpaddlq_s16(vmull_high_s8(a, b));
  return vaddq_s32(sum, vpaddq_s32(low, high));
}
#endif
TINYLM_INLINE I16 dot4(I16 sum, Quad a, I16 w) {
  return int_quarters([&](int i) { return dot4_quarter(sum.v[i], a.v, vreinterpretq_s8_s32(w.v[i])); });
}
TINYLM_INLINE I16 dot4_codes(I16 sum, I16 codes, Quad a) { return dot4(sum, a, codes); }
TINYLM_INLINE I16 low_nibbles(I16 a) {
  return int_quarters(
      [&](int i) { return vreinterpretq_s32_u8(vandq_u8(vreinterpretq_u8_s32(a.v[i]), vdupq_n_u8(15))); });
}
TINYLM_INLINE I16 high_nibbles(I16 a) {
  return int_quarters([&](int i) { return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(a.v[i]), 4)); });
}

constexpr int32_t kKeyOffset = 0;
using Query4 = Quad;
TINYLM_INLINE Query4 query4(const uint8_t* p) { return broadcast4(p); }
TINYLM_INLINE I16 dot4_keys(I16 sum, I16 keys, Query4 q) { return dot4(sum, q, keys); }

TINYLM_INLINE I16 integers_of(F16 a) {
  return int_quarters([&](int i) { return vsubq_s32(vreinterpretq_s32_f32(a.v[i]), vdupq_n_s32(0x4b400000)); });
}
TINYLM_INLINE int32_t fold_int(I16 a) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(a.v[0], a.v[1]), vaddq_s32(a.v[2], a.v[3])));
}

constexpr int32_t kValueOffset = 0;
TINYLM_INLINE void store_value(uint8_t* p, F16 rounded, int t) {
  const uint32x4_t shift = vdupq_n_u32(static_cast<uint32_t>(8 * t)),
                   mask = vshlq_u32(vdupq_n_u32(255), vreinterpretq_s32_u32(shift));
  for (int i = 0; i < 4; ++i) {
    const uint32x4_t byte = vshlq_u32(vreinterpretq_u32_f32(rounded.v[i]), vreinterpretq_s32_u32(shift));
    uint32_t* words = reinterpret_cast<uint32_t*>(p) + 4 * i;
    vst1q_u32(words, vbslq_u32(mask, byte, vld1q_u32(words)));
  }
}
TINYLM_INLINE void store_weights(int16_t* p, F16 rounded) {
  const I16 whole = integers_of(rounded);
  vst1q_s16(p, vcombine_s16(vmovn_s32(whole.v[0]), vmovn_s32(whole.v[1])));
  vst1q_s16(p + 8, vcombine_s16(vmovn_s32(whole.v[2]), vmovn_s32(whole.v[3])));
}
using Values4 = int8x16x4_t;  // by position
TINYLM_INLINE Values4 values4(const uint8_t* v) { return vld4q_s8(reinterpret_cast<const int8_t*>(v)); }
using MixSum = I16;
TINYLM_INLINE MixSum zero_mix() { return zero_int(); }
TINYLM_INLINE I16 mixed(const MixSum& sum) { return sum; }
TINYLM_INLINE I16 mix_values4(I16 sum, const Values4& values, const int16_t* weights) {
  for (int t = 0; t < 4; ++t) {
    const int16x8_t low = vmovl_s8(vget_low_s8(values.val[t])), high = vmovl_high_s8(values.val[t]);
    sum.v[0] = vmlal_n_s16(sum.v[0], vget_low_s16(low), weights[t]);
    sum.v[1] = vmlal_high_n_s16(sum.v[1], low, weights[t]);
    sum.v[2] = vmlal_n_s16(sum.v[2], vget_low_s16(high), weights[t]);
    sum.v[3] = vmlal_high_n_s16(sum.v[3], high, weights[t]);
  }
  return sum;
}
