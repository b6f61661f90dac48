// Everything that is float arithmetic in 16 lanes, written once for all instruction sets.
//
// Included inside an instruction set's own anonymous namespace, after it defined (see scalar.cpp for the meaning):
//   F16, load, store, store_past, set1, add, sub, mul, div, fma, max16, min16, less_select, at_least, abs16, exp2_bits,
//   fold_add, fold_max, load_bf16, store_bf16, bf16_slot
// Nothing here has external linkage, so no linker can swap one instruction set's copy for another's.

constexpr float kRoundMagic = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest-even integer in the low bits
constexpr float kMinusInfinity = -__builtin_inff();

// Brings a line into the first-level or the second-level cache. Any address will do: a fetch cannot fail.
TINYLM_INLINE void fetch_near(const void* line) { __builtin_prefetch(line, 0, 3); }
TINYLM_INLINE void fetch_far(const void* line) { __builtin_prefetch(line, 0, 2); }

// The rare ends of rows stay out of the hot loops' code.
TINYLM_NOINLINE void copy_end(const float* x, int64_t count, float fill, float* lanes) {
  for (int64_t i = 0; i < kLanes; ++i) lanes[i] = i < count ? x[i] : fill;
}
TINYLM_NOINLINE void copy_lanes(const float* lanes, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = lanes[i];
}

// The first min(count, 16) elements, then `fill`.
TINYLM_INLINE F16 load_some(const float* x, int64_t count, float fill) {
  if (count >= kLanes) return load(x);
  alignas(64) float lanes[kLanes];
  copy_end(x, count, fill, lanes);
  return load(lanes);
}

TINYLM_INLINE void store_some(float* y, F16 value, int64_t count) {
  if (count >= kLanes) return store(y, value);
  alignas(64) float lanes[kLanes];
  store(lanes, value);
  copy_lanes(lanes, count, y);
}

TINYLM_INLINE F16 negate(F16 x) { return sub(set1(0.0f), x); }

// --- Transcendental functions --------------------------------------------------------------------------------------

constexpr float kSmallestExponent = -87.3f;  // of a normal result

// exp(x) within 2 ulp for kSmallestExponent <= x <= 88.
TINYLM_INLINE F16 exp_bounded(F16 bounded) {
  const F16 shifted = fma(bounded, set1(1.44269504f), set1(kRoundMagic));
  const F16 n = sub(shifted, set1(kRoundMagic));
  // ln 2 in two parts, so that n * high is exact.
  const F16 r = fma(n, set1(2.12194440e-4f), fma(n, set1(-0.693359375f), bounded));
  // exp(r) - 1 - r over r^2, least maximum error on |r| <= ln(2)/2 (own fit, 4e-9 relative).
  F16 p = set1(0.0013814488193020225f);
  p = fma(p, r, set1(0.008368780836462975f));
  p = fma(p, r, set1(0.04166839271783829f));
  p = fma(p, r, set1(0.1666651964187622f));
  p = fma(p, r, set1(0.4999999403953552f));
  p = add(fma(mul(p, r), r, r), set1(1.0f));
  return mul(p, exp2_bits(shifted));
}

// exp(x); 0 below kSmallestExponent, saturates at exp(88).
TINYLM_INLINE F16 exp16(F16 x) {
  const F16 top = set1(88.0f), bottom = set1(kSmallestExponent);
  return less_select(x, bottom, set1(0.0f), exp_bounded(min16(x, top)));
}

// exp(x) of x <= 0; 1.2e-38 below kSmallestExponent, which vanishes beside the 1 that every softmax sum holds.
TINYLM_INLINE F16 exp_below(F16 x) { return exp_bounded(max16(x, set1(kSmallestExponent))); }

TINYLM_INLINE F16 tanh16(F16 x) {
  const F16 magnitude = abs16(x);
  // Near 0 an odd polynomial keeps the relative precision (Cephes tanhf's coefficients), elsewhere
  // 1 - 2 / (exp(2|x|) + 1).
  const F16 z = mul(x, x);
  F16 p = set1(-5.70498872745e-3f);
  p = fma(p, z, set1(2.06390887954e-2f));
  p = fma(p, z, set1(-5.37397155531e-2f));
  p = fma(p, z, set1(1.33314422036e-1f));
  p = fma(p, z, set1(-3.33332819422e-1f));
  const F16 near = fma(mul(p, z), x, x);
  const F16 far = sub(set1(1.0f), div(set1(2.0f), add(exp16(add(magnitude, magnitude)), set1(1.0f))));
  const F16 signed_far = less_select(x, set1(0.0f), negate(far), far);
  return less_select(magnitude, set1(0.625f), near, signed_far);
}

// x * (standard normal distribution function of x): GELU with erf. Relative precision holds in the negative tail too.
TINYLM_INLINE F16 gelu16(F16 x) {
  const F16 magnitude = abs16(x);
  const F16 t = div(set1(1.0f), fma(magnitude, set1(0.35f), set1(1.0f)));
  // exp(x^2/2) * (1 - Phi(x)) as a polynomial in t = 1 / (1 + 0.35 x) without constant (own fit, 4e-8 relative).
  F16 p = set1(-0.029125884175300598f);
  p = fma(p, t, set1(0.14387232065200806f));
  p = fma(p, t, set1(-0.2555047273635864f));
  p = fma(p, t, set1(0.1589294821023941f));
  p = fma(p, t, set1(-0.022937269881367683f));
  p = fma(p, t, set1(0.10543298721313477f));
  p = fma(p, t, set1(0.11985242366790771f));
  p = fma(p, t, set1(0.13985908031463623f));
  p = fma(p, t, set1(0.1396215707063675f));
  const F16 tail = mul(mul(p, t), exp16(mul(mul(x, set1(-0.5f)), x)));
  return mul(x, less_select(x, set1(0.0f), tail, sub(set1(1.0f), tail)));
}

// (1 + tanh(y)) / 2 is the logistic function of 2 y: half the work, and relative precision in the negative tail too.
TINYLM_INLINE F16 gelu_tanh16(F16 x) {
  const F16 minus_twice = mul(mul(x, set1(-1.5957691216f)), fma(mul(x, x), set1(0.044715f), set1(1.0f)));
  return div(x, add(exp16(minus_twice), set1(1.0f)));
}

TINYLM_INLINE F16 silu16(F16 x) { return div(x, add(exp16(negate(x)), set1(1.0f))); }

// --- Quantisation to int8 ------------------------------------------------------------------------------------------

float absolute_max(const float* x, int64_t n) {
  F16 top = set1(0.0f);
  for (int64_t i = 0; i < n; i += kLanes) top = max16(abs16(load_some(x + i, n - i, 0.0f)), top);
  return fold_max(top);
}

constexpr float kSmallestAmax = 7.8886090522101181e-31f;  // 2^-100: below it 127 / amax would overflow
float quantise_scale(float amax) { return amax >= kSmallestAmax ? amax / 127.0f : 0.0f; }
float quantise_factor(float amax) { return amax >= kSmallestAmax ? 127.0f / amax : 0.0f; }

// --- Elementwise ---------------------------------------------------------------------------------------------------

void rmsnorm(const float* x, const float* weight, int64_t n, float eps, float* y) {
  F16 squares = set1(0.0f);
  for (int64_t i = 0; i < n; i += kLanes) {
    const F16 v = load_some(x + i, n - i, 0.0f);
    squares = fma(v, v, squares);
  }
  const F16 inverse = set1(1.0f / __builtin_sqrtf(fold_add(squares) / static_cast<float>(n) + eps));
  for (int64_t i = 0; i < n; i += kLanes)
    store_some(y + i, mul(mul(load_some(x + i, n - i, 0.0f), inverse), load_some(weight + i, n - i, 0.0f)), n - i);
}

void layernorm(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* y) {
  F16 sum = set1(0.0f);
  for (int64_t i = 0; i < n; i += kLanes) sum = add(sum, load_some(x + i, n - i, 0.0f));
  const float mean_value = fold_add(sum) / static_cast<float>(n);
  const F16 mean = set1(mean_value);
  F16 squares = set1(0.0f);
  for (int64_t i = 0; i < n; i += kLanes) {
    const F16 v = sub(load_some(x + i, n - i, mean_value), mean);
    squares = fma(v, v, squares);
  }
  const F16 inverse = set1(1.0f / __builtin_sqrtf(fold_add(squares) / static_cast<float>(n) + eps));
  for (int64_t i = 0; i < n; i += kLanes) {
    const F16 v = mul(sub(load_some(x + i, n - i, 0.0f), mean), inverse);
    const F16 shift = bias ? load_some(bias + i, n - i, 0.0f) : set1(0.0f);
    store_some(y + i, fma(v, load_some(weight + i, n - i, 0.0f), shift), n - i);
  }
}

void rope(float* x, int64_t heads, int64_t head_dim, int64_t rotary_dim, const float* cos, const float* sin) {
  const int64_t half = rotary_dim / 2;
  for (int64_t h = 0; h < heads; ++h) {
    float* low = x + h * head_dim;
    float* high = low + half;
    for (int64_t i = 0; i < half; i += kLanes) {
      const int64_t left = half - i;
      const F16 a = load_some(low + i, left, 0.0f), b = load_some(high + i, left, 0.0f);
      const F16 c = load_some(cos + i, left, 0.0f), s = load_some(sin + i, left, 0.0f);
      store_some(low + i, fma(a, c, negate(mul(b, s))), left);
      store_some(high + i, fma(b, c, mul(a, s)), left);
    }
  }
}

template <typename Function>
void map(const float* x, const float* other, int64_t n, float* y, Function f) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const F16 second = other ? load_some(other + i, n - i, 0.0f) : set1(0.0f);
    store_some(y + i, f(load_some(x + i, n - i, 0.0f), second), n - i);
  }
}

void activate(Activation kind, const float* x, const float* up, int64_t n, float* y) {
  switch (kind) {
    case Activation::swiglu: return map(x, up, n, y, [](F16 a, F16 b) { return mul(silu16(a), b); });
    case Activation::gelu: return map(x, nullptr, n, y, [](F16 a, F16) { return gelu16(a); });
    case Activation::gelu_tanh: return map(x, nullptr, n, y, [](F16 a, F16) { return gelu_tanh16(a); });
    case Activation::relu2:
      return map(x, nullptr, n, y, [](F16 a, F16) {
        const F16 positive = less_select(a, set1(0.0f), set1(0.0f), a);
        return mul(positive, positive);
      });
  }
}

void add_rows(const float* a, const float* b, int64_t n, float* y) {
  map(a, b, n, y, [](F16 p, F16 q) { return add(p, q); });
}

void softcap(float* x, int64_t n, float cap) {
  const F16 c = set1(cap);
  map(x, nullptr, n, x, [c](F16 v, F16) { return mul(c, tanh16(div(v, c))); });
}

// --- Gradients -----------------------------------------------------------------------------------------------------

void rmsnorm_grad(const float* x, const float* weight, const float* dy, int64_t n, float eps, float* dx,
                  float* dweight) {
  F16 squares = set1(0.0f), dots = set1(0.0f);
  for (int64_t i = 0; i < n; i += kLanes) {
    const F16 v = load_some(x + i, n - i, 0.0f);
    squares = fma(v, v, squares);
    dots = fma(mul(load_some(weight + i, n - i, 0.0f), load_some(dy + i, n - i, 0.0f)), v, dots);
  }
  const float count = static_cast<float>(n);
  const float inverse = 1.0f / __builtin_sqrtf(fold_add(squares) / count + eps);
  const F16 r = set1(inverse), along = set1(-(fold_add(dots) / count * inverse * inverse));
  for (int64_t i = 0; i < n; i += kLanes) {
    const F16 v = load_some(x + i, n - i, 0.0f), g = load_some(dy + i, n - i, 0.0f);
    const F16 scaled = mul(load_some(weight + i, n - i, 0.0f), g);
    store_some(dweight + i, fma(mul(v, r), g, load_some(dweight + i, n - i, 0.0f)), n - i);
    store_some(dx + i, mul(fma(v, along, scaled), r), n - i);
  }
}

void swiglu_grad(const float* gate, const float* up, const float* dy, int64_t n, float* dgate, float* dup) {
  const F16 one = set1(1.0f);
  for (int64_t i = 0; i < n; i += kLanes) {
    const F16 a = load_some(gate + i, n - i, 0.0f), b = load_some(up + i, n - i, 0.0f),
              g = load_some(dy + i, n - i, 0.0f);
    const F16 sigmoid = div(one, add(exp16(negate(a)), one)), silu = mul(a, sigmoid);
    const F16 slope = fma(silu, sub(one, sigmoid), sigmoid);
    store_some(dup + i, mul(g, silu), n - i);
    store_some(dgate + i, mul(mul(g, b), slope), n - i);
  }
}

// --- Sampling and scoring ------------------------------------------------------------------------------------------

float block_max(const float* x, int64_t n, float* maxima) {
  float best = kMinusInfinity;
  for (int64_t begin = 0; begin < n; begin += kMaximaBlock) {
    F16 lanes = set1(kMinusInfinity);
    for (int64_t i = begin; i < begin + kMaximaBlock && i < n; i += kLanes)
      lanes = max16(load_some(x + i, n - i, kMinusInfinity), lanes);
    const float top = fold_max(lanes);
    maxima[begin / kMaximaBlock] = top;
    best = top > best ? top : best;
  }
  return best;
}

// Calls at(block) for the blocks whose maximum reaches `threshold`, in order.
template <typename At>
TINYLM_INLINE void for_blocks_at_least(const float* maxima, int64_t blocks, float threshold, const At& at) {
  const F16 least = set1(threshold);
  for (int64_t b = 0; b < blocks; b += kLanes)
    for (uint32_t set = at_least(load_some(maxima + b, blocks - b, kMinusInfinity), least); set != 0; set &= set - 1)
      if (b + __builtin_ctz(set) < blocks) at(b + __builtin_ctz(set));
}

// Past the caches: most copies are never read, and fetching their lines to write them would cost more than the copy.
TINYLM_INLINE void copy_block_past(const float* x, float* y) {
  for (int64_t i = 0; i < kMaximaBlock; i += kLanes) store_past(y + i, load(x + i));
}

// tops[level][lane]: the largest maxima that the lane has seen, in order. The least of the last level is a bound that
// 16 * levels blocks reach: of 50,257 random logits a fifth (one level) to two fifths (four) of all blocks are copied,
// for a few instructions a piece.
float keep_likely(const float* x, int64_t n, const float* maxima, int64_t levels, float* tops, float* y) {
  const int64_t blocks = (n + kMaximaBlock - 1) / kMaximaBlock;
  F16 sinking = load_some(maxima, blocks, kMinusInfinity);
  for (int64_t level = 0; level < levels; ++level, tops += kLanes) {
    const F16 top = load(tops);
    store(tops, max16(sinking, top));
    sinking = min16(sinking, top);
  }
  const float bound = -fold_max(negate(load(tops - kLanes)));
  for_blocks_at_least(maxima, blocks, bound, [=](int64_t block) {
    const int64_t begin = block * kMaximaBlock, end = begin + kMaximaBlock < n ? begin + kMaximaBlock : n;
    if (end - begin == kMaximaBlock) return copy_block_past(x + begin, y + begin);
    for (int64_t i = begin; i < end; i += kLanes) store_some(y + i, load_some(x + i, end - i, 0.0f), end - i);
  });
  return bound;
}

int64_t select_at_least(const float* x, int64_t n, const float* maxima, float threshold, int32_t* indices,
                        int64_t capacity) {
  const int64_t blocks = (n + kMaximaBlock - 1) / kMaximaBlock;
  // All blocks are fetched before the first is looked at: how many of a block are found is hard to predict, and each
  // wrong guess would else wait for memory.
  for_blocks_at_least(maxima, blocks, threshold, [x](int64_t block) {
    for (int64_t i = 0; i < kMaximaBlock; i += kLanes) __builtin_prefetch(x + block * kMaximaBlock + i);
  });
  const F16 least = set1(threshold);
  int64_t count = 0;
  for_blocks_at_least(maxima, blocks, threshold, [&](int64_t block) {
    const int64_t begin = block * kMaximaBlock, end = begin + kMaximaBlock < n ? begin + kMaximaBlock : n;
    for (int64_t i = begin; i < end; i += kLanes)
      for (uint32_t set = at_least(load_some(x + i, end - i, kMinusInfinity), least); set != 0; set &= set - 1) {
        const int64_t index = i + __builtin_ctz(set);
        if (index >= end) break;  // only where the threshold is -inf
        if (count < capacity) indices[count] = static_cast<int32_t>(index);
        ++count;
      }
  });
  return count;
}

float sum_exp(const float* x, int64_t n, float max, float inv_temperature) {
  const F16 top = set1(max), inverse = set1(inv_temperature);
  F16 sum = set1(0.0f);
  for (int64_t i = 0; i < n; i += kLanes)
    sum = add(sum, exp16(mul(sub(load_some(x + i, n - i, kMinusInfinity), top), inverse)));
  return fold_add(sum);
}

void exp_rows(const float* x, int64_t n, float max, float inv_temperature, float* y) {
  const F16 top = set1(max), inverse = set1(inv_temperature);
  map(x, nullptr, n, y, [top, inverse](F16 v, F16) { return exp16(mul(sub(v, top), inverse)); });
}
