// The readable reference: sixteen lanes as a plain array, one operation at a time, compiled without vectorisation.
#include "kernels.h"

#define TINYLM_UNROLL
#define TINYLM_NOINLINE __attribute__((noinline))
#define TINYLM_INLINE inline

namespace tinylm::kernels {
namespace {

struct F16 {
  float lane[kLanes];
};

template <typename Function>
F16 lanes(Function f) {
  F16 r;
  for (int64_t i = 0; i < kLanes; ++i) r.lane[i] = f(i);
  return r;
}

uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }
float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }
float widen_bf16(uint16_t x) { return float_of(static_cast<uint32_t>(x) << 16); }

// Nearest-even upper half.
uint16_t round_bf16(float x) {
  const uint32_t bits = bits_of(x);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

F16 load(const float* p) {
  return lanes([=](int64_t i) { return p[i]; });
}
void store(float* p, const F16& a) {
  for (int64_t i = 0; i < kLanes; ++i) p[i] = a.lane[i];
}
// Without bringing the line into a cache, where an instruction for that exists; p at a multiple of 32 bytes.
void store_past(float* p, const F16& a) { store(p, a); }
F16 set1(float x) {
  return lanes([=](int64_t) { return x; });
}
F16 add(const F16& a, const F16& b) {
  return lanes([&](int64_t i) { return a.lane[i] + b.lane[i]; });
}
F16 sub(const F16& a, const F16& b) {
  return lanes([&](int64_t i) { return a.lane[i] - b.lane[i]; });
}
F16 mul(const F16& a, const F16& b) {
  return lanes([&](int64_t i) { return a.lane[i] * b.lane[i]; });
}
F16 div(const F16& a, const F16& b) {
  return lanes([&](int64_t i) { return a.lane[i] / b.lane[i]; });
}
F16 fma(const F16& a, const F16& b, const F16& c) {
  return lanes([&](int64_t i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
}
// a > b ? a : b, so b where either is not a number.
F16 max16(const F16& a, const F16& b) {
  return lanes([&](int64_t i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
F16 min16(const F16& a, const F16& b) {
  return lanes([&](int64_t i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
// a < b ? x : y.
F16 less_select(const F16& a, const F16& b, const F16& x, const F16& y) {
  return lanes([&](int64_t i) { return a.lane[i] < b.lane[i] ? x.lane[i] : y.lane[i]; });
}
// Bit i: a >= b in lane i.
uint32_t at_least(const F16& a, const F16& b) {
  uint32_t set = 0;
  for (int64_t i = 0; i < kLanes; ++i) set |= static_cast<uint32_t>(a.lane[i] >= b.lane[i]) << i;
  return set;
}
F16 abs16(const F16& a) {
  return lanes([&](int64_t i) { return float_of(bits_of(a.lane[i]) & 0x7fffffff); });
}
// 2^n for an integer n held as n + 1.5 * 2^23.
F16 exp2_bits(const F16& a) {
  return lanes([&](int64_t i) { return float_of((bits_of(a.lane[i]) << 23) + 0x3f800000); });
}

template <typename Function>
float fold(const F16& a, Function f) {
  F16 r = a;
  for (int64_t half = 8; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) r.lane[i] = f(r.lane[i], r.lane[i + half]);
  return r.lane[0];
}
float fold_add(const F16& a) {
  return fold(a, [](float x, float y) { return x + y; });
}
float fold_max(const F16& a) {
  return fold(a, [](float x, float y) { return x > y ? x : y; });
}

int64_t bf16_slot(int64_t lane) { return lane; }  // where lane i of 16 bf16 elements is stored
F16 load_bf16(const uint16_t* p) {
  return lanes([=](int64_t i) { return widen_bf16(p[i]); });
}
void store_bf16(uint16_t* p, const F16& a) {
  for (int64_t i = 0; i < kLanes; ++i) p[i] = round_bf16(a.lane[i]);
}

// Sixteen integers held as x + 1.5 * 2^23, to int8.
void store_signed(uint8_t* p, const F16& a) {
  for (int64_t i = 0; i < kLanes; ++i) p[i] = static_cast<uint8_t>(bits_of(a.lane[i]));
}
constexpr int64_t kCodeBytes = 1;
constexpr uint8_t kWeightFlip = 0;
void store_codes(uint8_t* data, const F16& a) { store_signed(data, a); }
int32_t sum_group(const uint8_t* p) {
  int32_t sum = 0;
  for (int64_t i = 0; i < kGroup; ++i) sum += static_cast<int8_t>(p[i]);
  return sum;
}

struct I16 {
  int32_t lane[kLanes];
};
I16 set1_int(int32_t x) {
  I16 r;
  for (int32_t& lane : r.lane) lane = x;
  return r;
}
I16 zero_int() { return set1_int(0); }
I16 sub_int(const I16& a, const I16& b) {
  I16 r;
  for (int64_t i = 0; i < kLanes; ++i) r.lane[i] = a.lane[i] - b.lane[i];
  return r;
}
F16 to_float(const I16& a) {
  return lanes([&](int64_t i) { return static_cast<float>(a.lane[i]); });
}
I16 add_int(const I16& a, const I16& b) {
  I16 r;
  for (int64_t i = 0; i < kLanes; ++i) r.lane[i] = a.lane[i] + b.lane[i];
  return r;
}
int32_t fold_int(const I16& a) {
  int32_t sum = 0;
  for (const int32_t lane : a.lane) sum += lane;
  return sum;
}
// The integers of a, held as x + 1.5 * 2^23.
I16 integers_of(const F16& a) {
  I16 r;
  for (int64_t i = 0; i < kLanes; ++i) r.lane[i] = static_cast<int32_t>(bits_of(a.lane[i])) - 0x4b400000;
  return r;
}

constexpr int32_t kKeyOffset = 0;  // keys of a q8 cache are stored as key + this
using Query4 = const uint8_t*;
Query4 query4(const uint8_t* p) { return p; }
const uint8_t* load_weights(const uint8_t* p) { return p; }
I16 dot4_keys(const I16& sum, const uint8_t* keys, Query4 q) {
  I16 r = sum;
  for (int64_t i = 0; i < 4 * kLanes; ++i)
    r.lane[i / 4] += static_cast<int8_t>(keys[i]) * static_cast<int8_t>(q[i % 4]);
  return r;
}

constexpr int32_t kValueOffset = 0;  // values of a q8 cache are stored as value + this
void store_value(uint8_t* p, const F16& rounded, int t) {
  for (int64_t i = 0; i < kLanes; ++i) p[4 * i + t] = static_cast<uint8_t>(bits_of(rounded.lane[i]));
}
void store_weights(int16_t* p, const F16& rounded) {
  for (int64_t i = 0; i < kLanes; ++i) p[i] = static_cast<int16_t>(integers_of(rounded).lane[i]);
}
using Values4 = const uint8_t*;
Values4 values4(const uint8_t* v) { return v; }
using MixSum = I16;
MixSum zero_mix() { return zero_int(); }
I16 mixed(const MixSum& sum) { return sum; }
I16 mix_values4(const I16& sum, Values4 values, const int16_t* weights) {
  I16 r = sum;
  for (int64_t i = 0; i < 4 * kLanes; ++i) r.lane[i / 4] += static_cast<int8_t>(values[i]) * weights[i % 4];
  return r;
}

constexpr int64_t kFloatTileRows = 4, kFloatTileBlocks = 1, kFloatPairBlocks = 1, kFloatSingleBlocks = 1;

constexpr int kScoreBlocks = 4, kMixSums = 4, kTileSums = 4, kWeighTogether = 1;

#include "generic.inl"
#include "attention.inl"
#include "quads.inl"
#include "layout.inl"
#include "matmul_float.inl"

void finish_codes(uint8_t*, int64_t) {}

void matmul_q8(const Matrix& matrix, const void* rows, int64_t m, int64_t begin, int64_t end, float* y,
               int64_t y_stride, bool accumulate) {
  const int64_t stride = static_cast<int64_t>(row_bytes(matrix.type, matrix.k));
  for (int64_t r = 0; r < m; ++r) {
    const uint8_t* row = static_cast<const uint8_t*>(rows) + r * stride;
    const int8_t* x = reinterpret_cast<const int8_t*>(row_data(row));
    for (int64_t n = begin; n < end; ++n) {
      const Matrix block = block_of(matrix, n / kLanes);
      const int64_t lane = n % kLanes;
      int32_t dot = 0;
      for (int64_t k = 0; k < matrix.k; ++k) dot += x[k] * q8_weight(block.data, lane, k);
      const float v = static_cast<float>(dot) * block.scales[lane] * row_header(row).scale + block.bias[lane];
      y[r * y_stride + n] = accumulate ? y[r * y_stride + n] + v : v;
    }
  }
}

void matmul_q4(const Matrix& matrix, const void* rows, int64_t m, int64_t begin, int64_t end, float* y,
               int64_t y_stride, bool accumulate) {
  const int64_t stride = static_cast<int64_t>(row_bytes(matrix.type, matrix.k));
  for (int64_t r = 0; r < m; ++r) {
    const uint8_t* row = static_cast<const uint8_t*>(rows) + r * stride;
    const int8_t* x = reinterpret_cast<const int8_t*>(row_data(row));
    for (int64_t n = begin; n < end; ++n) {
      const Matrix block = block_of(matrix, n / kLanes);
      const int64_t lane = n % kLanes;
      float acc = 0.0f;
      for (int64_t g = 0; g < groups_of(matrix.k); ++g) {
        int32_t dot = 0;
        for (int64_t i = 0; i < kGroup; ++i) {
          const uint8_t codes = block.data[(g * 4 + i % 16 / 4) * 64 + lane * 4 + i % 4];
          dot += x[g * kGroup + i] * ((i < 16 ? codes & 15 : codes >> 4) - 8);
        }
        acc = __builtin_fmaf(static_cast<float>(dot), block.scales[g * kLanes + lane], acc);
      }
      const float v = acc * row_header(row).scale + block.bias[lane];
      y[r * y_stride + n] = accumulate ? y[r * y_stride + n] + v : v;
    }
  }
}

#include "table.inl"

}  // namespace

extern const KernelTable kScalarTable = make_table("scalar");

}  // namespace tinylm::kernels
