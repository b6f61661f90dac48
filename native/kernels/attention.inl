// Attention of one kv head over the blocked cache, written once for all instruction sets (see generic.inl).
//
// A q8 cache needs of the includer: I16 and its functions, and
//   Query4, query4(p), dot4_keys(sum, keys, query)   sum += four products in each lane; keys stored as key + kKeyOffset
//   store_value(p, F16, t)                           16 integers as byte t of 16 words of four, each plus kValueOffset
//   store_weights(p, F16)                            16 integers 0..32767 (as x + kRoundMagic) to int16, in its own order of four
//   kScoreBlocks     blocks of 16 positions whose scores are computed at once, 4..8
//   kMixSums         sums of 16 that a mix keeps at once, 4 or 8
//   mix4(sum, v, p)                                  sum += over four positions of value * weight; values stored as v + kValueOffset
//
// Orders: scores: lanes are positions, fma over d from 0; for q8 (float(dot) * query scale) * key scale; softmax sum: lane = position mod 16, then 8, 4, 2, 1;
// p . v: two sums (even and odd positions), each fma over positions in order, then even + odd, then times 1 / sum. For q8 the weights p * value scale become
// integers up to 32767 (see integer_weights) and the sum over positions is exact.

struct F32Elements {
  static constexpr int64_t bytes = 4;
  static TINYLM_INLINE F16 read(const uint8_t* p) { return load(reinterpret_cast<const float*>(p)); }
  static void write(uint8_t* p, F16 value) { store(reinterpret_cast<float*>(p), value); }
  static void write_lane(uint8_t* p, int64_t lane, float value) { reinterpret_cast<float*>(p)[lane] = value; }
};

struct Bf16Elements {
  static constexpr int64_t bytes = 2;
  static TINYLM_INLINE F16 read(const uint8_t* p) { return load_bf16(reinterpret_cast<const uint16_t*>(p)); }
  static void write(uint8_t* p, F16 value) { store_bf16(reinterpret_cast<uint16_t*>(p), value); }
  static void write_lane(uint8_t* p, int64_t lane, float value) {
    reinterpret_cast<uint16_t*>(p)[bf16_slot(lane)] = round_bf16(value);
  }
};

// q8 keys of 16 positions: their 16 scales, the 16 scales of their values, then [D/4][16][4] bytes. q8 values: [T/4][D][4].
constexpr int64_t kKeyHeader = 2 * kPositionBlock * 4;

int64_t element_bytes(KvType type) { return type == KvType::f32 ? 4 : type == KvType::bf16 ? 2 : 1; }

int64_t key_block_bytes(KvType type, int64_t head_dim) {
  if (type == KvType::q8) return kKeyHeader + kPositionBlock * round_up(head_dim, 4);
  return kPositionBlock * head_dim * element_bytes(type);
}
int64_t value_row_bytes(KvType type, int64_t head_dim) { return round_up(head_dim, kLanes) * element_bytes(type); }

size_t kv_bytes(KvType type, int64_t positions, int64_t head_dim, bool values) {
  const int64_t bytes = values ? round_up(positions, kPositionBlock) * value_row_bytes(type, head_dim)
                               : round_up(positions, kPositionBlock) / kPositionBlock * key_block_bytes(type, head_dim);
  return static_cast<size_t>(round_up(bytes, static_cast<int64_t>(kAlign)));
}

template <typename Elements>
void kv_store_as(const KvView& kv, int64_t position, const float* k, const float* v) {
  const int64_t step = kPositionBlock * Elements::bytes;
  uint8_t* column = static_cast<uint8_t*>(kv.k) + position / kPositionBlock * kv.head_dim * step;
  for (int64_t d = 0; d < kv.head_dim; ++d)
    Elements::write_lane(column + d * step, position % kPositionBlock, k[d]);
  uint8_t* row = static_cast<uint8_t*>(kv.v) + position * round_up(kv.head_dim, kLanes) * Elements::bytes;
  for (int64_t d = 0; d < kv.head_dim; d += kLanes)
    Elements::write(row + d * Elements::bytes, load_some(v + d, kv.head_dim - d, 0.0f));
}

// Calls write(d, 16 integers of x from d on, held as + kRoundMagic); returns the scale.
template <typename Write>
TINYLM_INLINE float quantise(const float* x, int64_t n, Write write) {
  const float amax = absolute_max(x, n);
  const F16 inverse = set1(quantise_factor(amax)), magic = set1(kRoundMagic);
  for (int64_t d = 0; d < n; d += kLanes) write(d, add(mul(load_some(x + d, n - d, 0.0f), inverse), magic));
  return quantise_scale(amax);
}

void kv_store_q8(const KvView& kv, int64_t position, const float* k, const float* v) {
  const int64_t lane = position % kPositionBlock, quads = round_up(kv.head_dim, 4) / 4;
  uint8_t* block = static_cast<uint8_t*>(kv.k) + position / kPositionBlock * key_block_bytes(KvType::q8, kv.head_dim);
  float* scales = reinterpret_cast<float*>(block);
  scales[lane] = quantise(k, kv.head_dim, [=](int64_t d, const F16& rounded) {
    alignas(64) uint8_t codes[kLanes];
    store_signed(codes, rounded);
    for (int64_t quad = d / 4; quad < quads && quad < d / 4 + 4; ++quad) {
      uint32_t four;
      __builtin_memcpy(&four, codes + 4 * quad - d, 4);
      four ^= kKeyOffset ? 0x80808080u : 0u;
      __builtin_memcpy(block + kKeyHeader + quad * 64 + lane * 4, &four, 4);
    }
  });
  uint8_t* four = static_cast<uint8_t*>(kv.v) + position / 4 * 4 * value_row_bytes(KvType::q8, kv.head_dim);
  scales[kPositionBlock + lane] = quantise(
      v, kv.head_dim, [=](int64_t d, const F16& rounded) { store_value(four + d * 4, rounded, static_cast<int>(position % 4)); });
}

void kv_store(const KvView& kv, int64_t position, const float* k, const float* v) {
  switch (kv.type) {
    case KvType::f32: return kv_store_as<F32Elements>(kv, position, k, v);
    case KvType::bf16: return kv_store_as<Bf16Elements>(kv, position, k, v);
    case KvType::q8: return kv_store_q8(kv, position, k, v);
  }
}

void kv_copy(const KvView& from, const KvView& to, int64_t count) {
  // Whole blocks: positions past `count` are never used before they are written.
  const int64_t blocks = round_up(count, kPositionBlock) / kPositionBlock;
  __builtin_memcpy(to.k, from.k, static_cast<size_t>(blocks * key_block_bytes(from.type, from.head_dim)));
  __builtin_memcpy(to.v, from.v, static_cast<size_t>(round_up(count, 4) * value_row_bytes(from.type, from.head_dim)));
}

size_t attention_scratch_floats(int64_t positions, int64_t head_dim) {
  return static_cast<size_t>(round_up(positions, kPositionBlock) + round_up(head_dim, kLanes));
}

// scores of `Blocks` consecutive position blocks.
template <typename Elements, int Blocks>
TINYLM_NOINLINE void score_blocks(const uint8_t* k, const float* q, int64_t head_dim, float* scores) {
  const int64_t step = kPositionBlock * Elements::bytes;
  F16 sums[Blocks];
  TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) sums[b] = set1(0.0f);
  for (int64_t d = 0; d < head_dim; ++d) {
    const F16 element = set1(q[d]);
    TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) sums[b] = fma(element, Elements::read(k + (b * head_dim + d) * step), sums[b]);
  }
  TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) store(scores + b * kPositionBlock, sums[b]);
}

// Sets the lanes from `count` on to -inf, as one register: single lanes would not be forwarded to the load that follows.
TINYLM_INLINE void keep_below(float* scores, int64_t count) {
  static const float numbers[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  store(scores, less_select(load(numbers), set1(static_cast<float>(count)), load(scores), set1(kMinusInfinity)));
}

// Sets the scores of whole blocks outside [begin, end) to -inf; returns the largest.
TINYLM_INLINE float mask_scores(float* scores, int64_t begin, int64_t end) {
  const int64_t from = begin / kPositionBlock * kPositionBlock, to = round_up(end, kPositionBlock);
  for (int64_t t = from; t < begin; ++t) scores[t] = kMinusInfinity;
  if (end < to) keep_below(scores + to - kLanes, end - (to - kLanes));
  F16 top = load(scores + from);
  for (int64_t t = from + kLanes; t < to; t += kLanes) top = max16(load(scores + t), top);
  return fold_max(top);
}

// Replaces scores by exp(score - max), at most 1.2e-38 outside [begin, end); returns the sum.
TINYLM_NOINLINE float softmax_weights(float* scores, int64_t begin, int64_t end) {
  const F16 max = set1(mask_scores(scores, begin, end));
  F16 sum = set1(0.0f);
  for (int64_t t = begin / kPositionBlock * kPositionBlock; t < end; t += kLanes) {
    const F16 weight = exp_below(sub(load(scores + t), max));
    store(scores + t, weight);
    sum = add(sum, weight);
  }
  return fold_add(sum);
}

// out[0 .. 16 Chunks) = sum over positions of weight * v, times `inverse`.
template <typename Elements, int Chunks>
TINYLM_NOINLINE void mix_values(const uint8_t* v, int64_t row_bytes, const float* weights, int64_t begin, int64_t end, float inverse,
                float* out, int64_t count) {
  F16 even[Chunks], odd[Chunks];
  TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) even[c] = odd[c] = set1(0.0f);
  const int64_t step = kLanes * Elements::bytes;
  int64_t t = begin;
  if (t % 2) {
    TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) odd[c] = fma(set1(weights[t]), Elements::read(v + t * row_bytes + c * step), odd[c]);
    ++t;
  }
  for (; t + 1 < end; t += 2) {
    const uint8_t* row = v + t * row_bytes;
    const F16 first = set1(weights[t]), second = set1(weights[t + 1]);
    TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) {
      even[c] = fma(first, Elements::read(row + c * step), even[c]);
      odd[c] = fma(second, Elements::read(row + row_bytes + c * step), odd[c]);
    }
  }
  if (t < end)
    TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) even[c] = fma(set1(weights[t]), Elements::read(v + t * row_bytes + c * step), even[c]);
  TINYLM_UNROLL for (int c = 0; c < Chunks; ++c)
    store_some(out + c * kLanes, mul(add(even[c], odd[c]), set1(inverse)), count - c * kLanes);
}

// q8: the query of one head as int8, and what its scores are multiplied by.
struct Query {
  const uint8_t* codes;
  float scale;
  int32_t excess;  // what kKeyOffset adds to each dot product
};

TINYLM_NOINLINE Query quantise_query(const float* q, int64_t head_dim, float scale, uint8_t* codes) {
  I16 sum = zero_int();
  const float q_scale = quantise(q, head_dim, [&](int64_t d, const F16& rounded) {
    store_signed(codes + d, rounded);
    if constexpr (kKeyOffset != 0) sum = add_int(sum, integers_of(rounded));
  });
  return {codes, q_scale * scale, kKeyOffset != 0 ? fold_int(sum) * kKeyOffset : 0};
}

// `values`: as many of the next call's, 64 bytes for each quad and block, fetched meanwhile.
template <int Blocks>
TINYLM_NOINLINE void score_blocks_q8(const uint8_t* k, int64_t block_bytes, const Query& query, int64_t quads,
                                     const uint8_t* values, float* scores) {
  I16 sums[Blocks];
  TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) sums[b] = zero_int();
  for (int64_t quad = 0; quad < quads; ++quad) {
    const Query4 four = query4(query.codes + 4 * quad);
    TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) {
      __builtin_prefetch(values + (b * quads + quad) * 64);
      sums[b] = dot4_keys(sums[b], load_weights(k + b * block_bytes + kKeyHeader + quad * 64), four);
    }
  }
  const I16 excess = set1_int(query.excess);
  const F16 scale = set1(query.scale);
  TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) {
    const F16 key_scales = load(reinterpret_cast<const float*>(k + b * block_bytes));
    store(scores + b * kPositionBlock, mul(mul(to_float(sub_int(sums[b], excess)), scale), key_scales));
  }
}

// Calls run<Blocks>(first block) for blocks begin..end: kScoreBlocks at a time, then what is left at once.
template <typename Step>
TINYLM_INLINE void for_position_blocks(int64_t begin, int64_t end, const Step& step) {
  int64_t b = begin;
  for (; b + kScoreBlocks <= end; b += kScoreBlocks) step.template run<kScoreBlocks>(b);
  switch (end - b) {
    case 1: return step.template run<1>(b);
    case 2: return step.template run<2>(b);
    case 3: return step.template run<3>(b);
    case 4: if constexpr (kScoreBlocks > 4) return step.template run<4>(b); else return;
    case 5: if constexpr (kScoreBlocks > 5) return step.template run<5>(b); else return;
    case 6: if constexpr (kScoreBlocks > 6) return step.template run<6>(b); else return;
    case 7: if constexpr (kScoreBlocks > 7) return step.template run<7>(b); else return;
    default: return;
  }
}

template <typename Elements>
struct FloatScores {
  const uint8_t* k;
  int64_t block_bytes, head_dim;
  const float* q;
  float* scores;
  template <int Blocks>
  TINYLM_INLINE void run(int64_t b) const {
    score_blocks<Elements, Blocks>(k + b * block_bytes, q, head_dim, scores + b * kPositionBlock);
  }
};

struct Int8Scores {
  const uint8_t *k, *v;
  int64_t block_bytes, quads;
  const Query& query;
  float* scores;
  template <int Blocks>
  TINYLM_INLINE void run(int64_t b) const {
    score_blocks_q8<Blocks>(k + b * block_bytes, block_bytes, query, quads, v + b * quads * 64, scores + b * kPositionBlock);
  }
};

template <typename Elements>
void float_scores(const AttentionCall& call, const float* q, int64_t begin, int64_t end, float* scaled, float* scores) {
  const int64_t head_dim = call.kv.head_dim;
  for (int64_t d = 0; d < head_dim; d += kLanes)
    store_some(scaled + d, mul(load_some(q + d, head_dim - d, 0.0f), set1(call.scale)), head_dim - d);
  const FloatScores<Elements> step{static_cast<const uint8_t*>(call.kv.k), key_block_bytes(call.kv.type, head_dim), head_dim,
                                   scaled, scores};
  for_position_blocks(begin / kPositionBlock, round_up(end, kPositionBlock) / kPositionBlock, step);
}

void int8_scores(const AttentionCall& call, const float* q, int64_t begin, int64_t end, float* scaled, float* scores) {
  const int64_t head_dim = call.kv.head_dim;
  const Query query = quantise_query(q, head_dim, call.scale, reinterpret_cast<uint8_t*>(scaled));
  const Int8Scores step{static_cast<const uint8_t*>(call.kv.k), static_cast<const uint8_t*>(call.next_v ? call.next_v : call.kv.v),
                        key_block_bytes(KvType::q8, head_dim), round_up(head_dim, 4) / 4, query, scores};
  for_position_blocks(begin / kPositionBlock, round_up(end, kPositionBlock) / kPositionBlock, step);
}

// The largest sum of integer weights: 2^23 * 255 < 2^31, so that mix4 cannot overflow.
constexpr float kWeightSum = 8388608.0f;

struct IntegerWeights {
  const int16_t* codes;  // 0..32767, in the order that store_weights gives each four
  int32_t excess;        // what kValueOffset adds to each mixed sum
  float scale;           // of the mixed sums
};

// Softmax of scores, times each position's value scale, rounded to integers in place. The largest weight becomes 32767, or
// less where their sum would pass kWeightSum.
TINYLM_NOINLINE IntegerWeights integer_weights(const KvView& kv, int64_t begin, int64_t end, float* scores) {
  const int64_t block_bytes = key_block_bytes(KvType::q8, kv.head_dim), from = begin / kPositionBlock * kPositionBlock;
  const uint8_t* value_scales = static_cast<const uint8_t*>(kv.k) + kPositionBlock * 4;
  const F16 max = set1(mask_scores(scores, begin, end)), zero = set1(0.0f), masked = set1(-3e38f);
  F16 sum = zero, weight_sum = zero, top = zero;
  for (int64_t t = from; t < end; t += kLanes) {
    const F16 score = load(scores + t), p = exp_below(sub(score, max));
    const F16 scales = load(reinterpret_cast<const float*>(value_scales + t / kPositionBlock * block_bytes));
    const F16 weight = less_select(score, masked, zero, mul(p, scales));  // scales outside [begin, end) may be anything
    store(scores + t, weight);
    sum = add(sum, p);
    weight_sum = add(weight_sum, weight);
    top = max16(weight, top);
  }
  const float largest = fold_max(top), total = fold_add(weight_sum), by_largest = 32767.0f / largest, by_sum = kWeightSum / total;
  const bool none = !(largest >= kSmallestAmax);  // values of zero
  const float factor = none ? 0.0f : by_largest < by_sum ? by_largest : by_sum;
  const F16 scale = set1(factor), magic = set1(kRoundMagic);
  int16_t* codes = reinterpret_cast<int16_t*>(scores);
  I16 code_sums = zero_int();
  for (int64_t t = from; t < end; t += kLanes) {
    const F16 rounded = add(mul(load(scores + t), scale), magic);
    store_weights(codes + t, rounded);
    if constexpr (kValueOffset != 0) code_sums = add_int(code_sums, integers_of(rounded));
  }
  return {codes, fold_int(code_sums) * kValueOffset, none ? 0.0f : 1.0f / (factor * fold_add(sum))};
}

// out[0..16 Chunks) = sum over positions of weight * value, times `scale`. `next`: as many keys of the next call.
template <int Chunks>
TINYLM_NOINLINE void mix_values_q8(const uint8_t* v, int64_t row_bytes, const IntegerWeights& weights, int64_t begin, int64_t end,
                                   const uint8_t* next, float* out, int64_t count) {
  // Several sums of each chunk, or the loop would wait for the last addition. Positions past `end` have weights of zero.
  constexpr int Splits = kMixSums / Chunks < 4 ? kMixSums / Chunks : 4;  // at most a block of positions a turn
  I16 sums[Chunks * Splits];
  TINYLM_UNROLL for (int i = 0; i < Chunks * Splits; ++i) sums[i] = zero_int();
  for (int64_t t = begin; t < end; t += 4 * Splits)
    TINYLM_UNROLL for (int s = 0; s < Splits; ++s, next += 64 * Chunks)
      TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) {
        __builtin_prefetch(next + c * 64);
        I16& sum = sums[c * Splits + s];
        sum = mix4(sum, v + (t + 4 * s) * row_bytes + c * 64, weights.codes + t + 4 * s);
      }
  TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) {
    I16 sum = sums[c * Splits];
    TINYLM_UNROLL for (int s = 1; s < Splits; ++s) sum = add_int(sum, sums[c * Splits + s]);
    const F16 mixed = to_float(sub_int(sum, set1_int(weights.excess)));
    store_some(out + c * kLanes, mul(mixed, set1(weights.scale)), count - c * kLanes);
  }
}

void mix_all_q8(const AttentionCall& call, float* scores, int64_t begin, int64_t end, float* out) {
  const int64_t head_dim = call.kv.head_dim, row_bytes = round_up(head_dim, kLanes);
  const IntegerWeights weights = integer_weights(call.kv, begin, end, scores);
  const uint8_t* v = static_cast<const uint8_t*>(call.kv.v);
  const uint8_t* next = static_cast<const uint8_t*>(call.next_k ? call.next_k : call.kv.k);
  const int64_t from = begin / kPositionBlock * kPositionBlock, fetched = round_up(end - from, 4) * kLanes;  // bytes per chunk
  int64_t d = 0;
  for (; d + 4 * kLanes <= row_bytes; d += 4 * kLanes, next += 4 * fetched)
    mix_values_q8<4>(v + 4 * d, row_bytes, weights, from, end, next, out + d, head_dim - d);
  for (; d + 2 * kLanes <= row_bytes; d += 2 * kLanes, next += 2 * fetched)
    mix_values_q8<2>(v + 4 * d, row_bytes, weights, from, end, next, out + d, head_dim - d);
  if (d < row_bytes) mix_values_q8<1>(v + 4 * d, row_bytes, weights, from, end, next, out + d, head_dim - d);
}

template <typename Elements>
void mix_all(const AttentionCall& call, const float* weights, int64_t begin, int64_t end, float inverse, float* out) {
  const int64_t head_dim = call.kv.head_dim, padded = round_up(head_dim, kLanes), row_bytes = padded * Elements::bytes;
  const uint8_t* v = static_cast<const uint8_t*>(call.kv.v);
  int64_t d = 0;
  for (; d + 2 * kLanes <= padded; d += 2 * kLanes)
    mix_values<Elements, 2>(v + d * Elements::bytes, row_bytes, weights, begin, end, inverse, out + d, head_dim - d);
  if (d < padded)
    mix_values<Elements, 1>(v + d * Elements::bytes, row_bytes, weights, begin, end, inverse, out + d, head_dim - d);
}

void prefetch(const void* begin, int64_t bytes) {
  const char* p = static_cast<const char*>(begin);
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i);
}

void attend(const AttentionCall& call, const float* q, int64_t begin, int64_t end, float* out) {
  float* scaled = call.scratch;
  float* scores = call.scratch + round_up(call.kv.head_dim, kLanes);
  // Caches of many slots do not fit the processor's: for q8 the next call's values come while the scores are computed, its
  // keys during the mix; a call ahead, since the scores take too little time to bring in their own values. The fetches are
  // spread over the loops, so that they never fill the miss buffers (measured, see docs).
  if (call.kv.type == KvType::q8) {
    int8_scores(call, q, begin, end, scaled, scores);
    return mix_all_q8(call, scores, begin, end, out);
  }
  const int64_t row = value_row_bytes(call.kv.type, call.kv.head_dim);
  prefetch(static_cast<const uint8_t*>(call.kv.v) + begin * row, (end - begin) * row);
  if (call.kv.type == KvType::f32) float_scores<F32Elements>(call, q, begin, end, scaled, scores);
  else float_scores<Bf16Elements>(call, q, begin, end, scaled, scores);
  if (call.next_k)
    prefetch(call.next_k, round_up(end, kPositionBlock) / kPositionBlock * key_block_bytes(call.kv.type, call.kv.head_dim));
  const float inverse = 1.0f / softmax_weights(scores, begin, end);
  if (call.kv.type == KvType::f32) return mix_all<F32Elements>(call, scores, begin, end, inverse, out);
  mix_all<Bf16Elements>(call, scores, begin, end, inverse, out);
}

void attention(const AttentionCall& call) {
  for (int64_t i = 0; i < call.queries; ++i) {
    const int64_t end = call.first_position + i + 1;
    const int64_t begin = call.window > 0 && end > call.window ? end - call.window : 0;
    for (int64_t g = 0; g < call.group; ++g)
      attend(call, call.q + i * call.q_stride + g * call.kv.head_dim, begin, end,
             call.out + i * call.out_stride + g * call.kv.head_dim);
  }
}
