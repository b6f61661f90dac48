// Attention over the blocked cache, written once for all instruction sets (see generic.inl).
//
// Orders: scores: lanes are positions, fma over d from 0; for q8 (float(dot) * query scale) * key scale; softmax sum:
// lane = position mod 16, then 8, 4, 2, 1; p . v: two sums (even and odd positions), each fma over positions in order,
// then even + odd, then times 1 / sum. For q8 the weights p * value scale become integers up to 32767 (see weigh) and
// the sum over positions is exact.

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

// q8 keys of 16 positions: their 16 scales, the 16 scales of their values, then [D/4][16][4] bytes. q8 values:
// [T/4][D][4].
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

KvView head_of(const KvView& kv, int64_t head) {
  return {kv.type, kv.head_dim, static_cast<uint8_t*>(kv.k) + head * kv.step,
          static_cast<uint8_t*>(kv.v) + head * kv.step};
}

template <typename Elements>
void kv_store_as(const KvView& kv, int64_t position, const float* k, const float* v) {
  const int64_t step = kPositionBlock * Elements::bytes;
  uint8_t* column = static_cast<uint8_t*>(kv.k) + position / kPositionBlock * kv.head_dim * step;
  for (int64_t d = 0; d < kv.head_dim; ++d) Elements::write_lane(column + d * step, position % kPositionBlock, k[d]);
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
  scales[kPositionBlock + lane] = quantise(v, kv.head_dim, [=](int64_t d, const F16& rounded) {
    store_value(four + d * 4, rounded, static_cast<int>(position % 4));
  });
}

void store_head(const KvView& kv, int64_t position, const float* k, const float* v) {
  switch (kv.type) {
    case KvType::f32: return kv_store_as<F32Elements>(kv, position, k, v);
    case KvType::bf16: return kv_store_as<Bf16Elements>(kv, position, k, v);
    case KvType::q8: return kv_store_q8(kv, position, k, v);
  }
}

void kv_store(const KvView& kv, int64_t position, const float* k, const float* v) {
  for (int64_t h = 0; h < kv.heads; ++h) store_head(head_of(kv, h), position, k + h * kv.head_dim, v + h * kv.head_dim);
}

void kv_copy(const KvView& from, const KvView& to, int64_t count) {
  // Whole blocks: positions past `count` are never used before they are written.
  const int64_t blocks = round_up(count, kPositionBlock) / kPositionBlock;
  for (int64_t h = 0; h < from.heads; ++h) {
    const KvView source = head_of(from, h), target = head_of(to, h);
    __builtin_memcpy(target.k, source.k, static_cast<size_t>(blocks * key_block_bytes(from.type, from.head_dim)));
    __builtin_memcpy(target.v, source.v,
                     static_cast<size_t>(round_up(count, 4) * value_row_bytes(from.type, from.head_dim)));
  }
}

constexpr int64_t kScratchQueries = 4;  // whose scores a call holds at once

size_t attention_scratch_floats(int64_t positions, int64_t head_dim) {
  return static_cast<size_t>(kScratchQueries * (round_up(positions, kPositionBlock) + round_up(head_dim, kLanes)));
}

int64_t first_position_seen(const AttentionCall& call, int64_t end) {
  return call.window > 0 && end > call.window ? end - call.window : 0;
}

// What will be read for an upcoming head, or this one's own where there is none.
const uint8_t* keys_of(const Upcoming& head, const KvView& own) {
  return static_cast<const uint8_t*>(head.k ? head.k : own.k);
}
const uint8_t* values_of(const Upcoming& head, const KvView& own) {
  return static_cast<const uint8_t*>(head.v ? head.v : own.v);
}

// Head `head` of a call, or one of the two that are read after its last.
Upcoming upcoming(const AttentionCall& call, int64_t head) {
  if (head > call.kv.heads) return call.later;
  if (head == call.kv.heads) return call.next;
  const KvView own = head_of(call.kv, head);
  return {own.k, own.v};
}

// The same call for one of its heads.
AttentionCall of_head(const AttentionCall& call, int64_t head) {
  AttentionCall one = call;
  one.kv = head_of(call.kv, head);
  one.next = upcoming(call, head + 1), one.later = upcoming(call, head + 2);
  one.q += head * call.group * call.kv.head_dim, one.out += head * call.group * call.kv.head_dim;
  if (call.new_k) one.new_k += head * call.kv.head_dim, one.new_v += head * call.kv.head_dim;
  return one;
}

// Caches of many slots do not fit the processor's, so later heads' keys and values are fetched into the second-level
// cache in all loops over one, each line twice, and what is read next once more into the first level. A processor drops
// fetches while its miss buffers are full (of a burst of 128 a quarter, measured on Zen 5), and the first level has the
// fewer: W2 of the presets 1.1 to 1.5 times as fast on Zen 4 as with fetches into the first level alone. With each line
// fetched once, one step of 96 slots takes 54 us instead of 33 (see docs).
//
// What is fetched during each block of positions; null: nothing.
struct Ahead {
  const uint8_t *keys, *values;

  TINYLM_INLINE void fetch_block(int64_t key_bytes, int64_t value_bytes) {
    if (keys) keys = fetch(keys, key_bytes);
    if (values) values = fetch(values, value_bytes);
  }
  static TINYLM_INLINE const uint8_t* fetch(const uint8_t* from, int64_t bytes) {
    TINYLM_UNROLL for (int64_t i = 0; i < bytes; i += 64) fetch_far(from + i);
    return from + bytes;
  }
};

// The keys of the head after the next and the values of the next, from the block of position `begin` on; their lines
// have been fetched once.
Ahead second_fetch(const KvView& kv, const Upcoming& next, const Upcoming& later, int64_t begin) {
  const int64_t block = begin / kPositionBlock;
  return {keys_of(later, kv) + block * key_block_bytes(kv.type, kv.head_dim),
          values_of(next, kv) + block * kPositionBlock * value_row_bytes(kv.type, kv.head_dim)};
}

// scores of `Blocks` consecutive position blocks. `values`: as many bytes of this head's values, `later`: the same
// blocks of a later head's keys; both are fetched meanwhile, if Fetches.
template <typename Elements, bool Fetches, int Blocks>
TINYLM_NOINLINE void score_blocks(const uint8_t* k, const float* q, int64_t head_dim, const uint8_t* values,
                                  const uint8_t* later, float* scores) {
  const int64_t step = kPositionBlock * Elements::bytes;
  F16 sums[Blocks];
  TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) sums[b] = set1(0.0f);
  for (int64_t d = 0; d < head_dim; ++d) {
    const F16 element = set1(q[d]);
    TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) {
      const int64_t at = (b * head_dim + d) * step;
      if constexpr (Fetches) fetch_near(values + at), fetch_far(later + at);
      sums[b] = fma(element, Elements::read(k + at), sums[b]);
    }
  }
  TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) store(scores + b * kPositionBlock, sums[b]);
}

// Sets the lanes from `count` on to -inf, as one register: single lanes would not be forwarded to the load that
// follows.
TINYLM_INLINE void keep_below(float* scores, int64_t count) {
  static const float numbers[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  store(scores, less_select(load(numbers), set1(static_cast<float>(count)), load(scores), set1(kMinusInfinity)));
}

// Sets the scores of whole blocks outside [begin, end) to -inf.
TINYLM_INLINE void mask_ends(float* scores, int64_t begin, int64_t end) {
  const int64_t from = begin / kPositionBlock * kPositionBlock, to = round_up(end, kPositionBlock);
  for (int64_t t = from; t < begin; ++t) scores[t] = kMinusInfinity;
  if (end < to) keep_below(scores + to - kLanes, end - (to - kLanes));
}

// The same; returns the largest.
TINYLM_INLINE float mask_scores(float* scores, int64_t begin, int64_t end) {
  const int64_t from = begin / kPositionBlock * kPositionBlock, to = round_up(end, kPositionBlock);
  mask_ends(scores, begin, end);
  F16 top = load(scores + from);
  for (int64_t t = from + kLanes; t < to; t += kLanes) top = max16(load(scores + t), top);
  return fold_max(top);
}

// Replaces scores by exp(score - max), at most 1.2e-38 outside [begin, end); returns the sum.
TINYLM_NOINLINE float softmax_weights(const KvView& kv, float* scores, int64_t begin, int64_t end, Ahead ahead) {
  const int64_t key_bytes = key_block_bytes(kv.type, kv.head_dim),
                value_bytes = kPositionBlock * value_row_bytes(kv.type, kv.head_dim);
  const F16 max = set1(mask_scores(scores, begin, end));
  F16 sum = set1(0.0f);
  for (int64_t t = begin / kPositionBlock * kPositionBlock; t < end; t += kLanes) {
    ahead.fetch_block(key_bytes, value_bytes);
    const F16 weight = exp_below(sub(load(scores + t), max));
    store(scores + t, weight);
    sum = add(sum, weight);
  }
  return fold_add(sum);
}

// out[0 .. 16 Chunks) = sum over positions of weight * v, times `inverse`. `next`, `later`: the same places of the next
// head's keys and of a later one's values.
template <typename Elements, bool Fetches, int Chunks>
TINYLM_NOINLINE void mix_values(const uint8_t* v, int64_t row_bytes, const float* weights, int64_t begin, int64_t end,
                                float inverse, const uint8_t* next, const uint8_t* later, float* out, int64_t count) {
  F16 even[Chunks], odd[Chunks];
  TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) even[c] = odd[c] = set1(0.0f);
  const int64_t step = kLanes * Elements::bytes;
  int64_t t = begin;
  if (t % 2) {
    TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) odd[c] =
        fma(set1(weights[t]), Elements::read(v + t * row_bytes + c * step), odd[c]);
    ++t;
  }
  for (; t + 1 < end; t += 2) {
    const uint8_t* row = v + t * row_bytes;
    const F16 first = set1(weights[t]), second = set1(weights[t + 1]);
    TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) {
      const int64_t at = t * row_bytes + c * step;
      if constexpr (Fetches) {
        fetch_near(next + at), fetch_near(next + at + row_bytes);
        fetch_far(later + at), fetch_far(later + at + row_bytes);
      }
      even[c] = fma(first, Elements::read(row + c * step), even[c]);
      odd[c] = fma(second, Elements::read(row + row_bytes + c * step), odd[c]);
    }
  }
  if (t < end)
    TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) even[c] =
        fma(set1(weights[t]), Elements::read(v + t * row_bytes + c * step), even[c]);
  TINYLM_UNROLL for (int c = 0; c < Chunks; ++c)
      store_some(out + c * kLanes, mul(add(even[c], odd[c]), set1(inverse)), count - c * kLanes);
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
    case 4:
      if constexpr (kScoreBlocks > 4) return step.template run<4>(b);
      else return;
    case 5:
      if constexpr (kScoreBlocks > 5) return step.template run<5>(b);
      else return;
    case 6:
      if constexpr (kScoreBlocks > 6) return step.template run<6>(b);
      else return;
    case 7:
      if constexpr (kScoreBlocks > 7) return step.template run<7>(b);
      else return;
    default: return;
  }
}

template <typename Elements, bool Fetches>
struct FloatScores {
  const uint8_t *k, *v, *later_k;
  int64_t block_bytes, head_dim;
  const float* q;
  float* scores;
  template <int Blocks>
  TINYLM_INLINE void run(int64_t b) const {
    const int64_t at = b * block_bytes;
    score_blocks<Elements, Fetches, Blocks>(k + at, q, head_dim, v + at, later_k + at, scores + b * kPositionBlock);
  }
};

template <typename Elements, bool Fetches>
void float_scores(const AttentionCall& call, const float* q, int64_t begin, int64_t end, float* scaled, float* scores) {
  const int64_t head_dim = call.kv.head_dim;
  for (int64_t d = 0; d < head_dim; d += kLanes)
    store_some(scaled + d, mul(load_some(q + d, head_dim - d, 0.0f), set1(call.scale)), head_dim - d);
  const uint8_t *k = static_cast<const uint8_t*>(call.kv.k), *v = static_cast<const uint8_t*>(call.kv.v);
  const FloatScores<Elements, Fetches> step{
      k, v, keys_of(call.later, call.kv), key_block_bytes(call.kv.type, head_dim), head_dim, scaled, scores};
  for_position_blocks(begin / kPositionBlock, round_up(end, kPositionBlock) / kPositionBlock, step);
}

template <typename Elements, bool Fetches>
void mix_all(const AttentionCall& call, const float* weights, int64_t begin, int64_t end, float inverse, float* out) {
  const int64_t head_dim = call.kv.head_dim, padded = round_up(head_dim, kLanes), row_bytes = padded * Elements::bytes;
  const uint8_t *v = static_cast<const uint8_t*>(call.kv.v), *next = keys_of(call.next, call.kv),
                *later = values_of(call.later, call.kv);
  int64_t d = 0;
  for (int64_t at = 0; d + 2 * kLanes <= padded; d += 2 * kLanes, at = d * Elements::bytes)
    mix_values<Elements, Fetches, 2>(v + at, row_bytes, weights, begin, end, inverse, next + at, later + at, out + d,
                                     head_dim - d);
  const int64_t at = d * Elements::bytes;
  if (d < padded)
    mix_values<Elements, Fetches, 1>(v + at, row_bytes, weights, begin, end, inverse, next + at, later + at, out + d,
                                     head_dim - d);
}

template <typename Elements, bool Fetches>
void attend_float(const AttentionCall& call, const float* q, int64_t begin, int64_t end, float* scaled, float* scores,
                  float* out) {
  float_scores<Elements, Fetches>(call, q, begin, end, scaled, scores);
  const float inverse = 1.0f / softmax_weights(call.kv, scores, begin, end,
                                               Fetches ? second_fetch(call.kv, call.next, call.later, begin) : Ahead{});
  mix_all<Elements, Fetches>(call, scores, begin, end, inverse, out);
}

// Query `index` of a call of one kv head, over positions and query heads.
void attend_one_float(const AttentionCall& call, int64_t index) {
  const int64_t row = index / call.group, at = index % call.group * call.kv.head_dim,
                end = call.first_position + row + 1;
  // A prompt's many queries would fetch the same again and again, which costs floats up to a third.
  const bool fetches = call.later.k != nullptr && call.queries == 1;
  const auto attend_as = call.kv.type == KvType::f32
                             ? (fetches ? attend_float<F32Elements, true> : attend_float<F32Elements, false>)
                             : (fetches ? attend_float<Bf16Elements, true> : attend_float<Bf16Elements, false>);
  attend_as(call, call.q + row * call.q_stride + at, first_position_seen(call, end), end, call.scratch,
            call.scratch + round_up(call.kv.head_dim, kLanes), call.out + row * call.out_stride + at);
}

#include "attention_q8.inl"
#include "attention_tiles.inl"

void store_new(const AttentionCall& call) {
  if (!call.new_k) return;
  for (int64_t i = 0; i < call.queries; ++i)
    kv_store(call.kv, call.first_position + i, call.new_k + i * call.q_stride, call.new_v + i * call.q_stride);
}

template <typename Dim>
void attend_q8(const AttentionCall& call, Dim head_dim) {
  const int64_t count = call.queries * call.group;
  int64_t index = 0;
  for (; index + kQueryTile <= count; index += kQueryTile)
    attend_tile(call, head_dim, index, index + 2 * kQueryTile > count);
  attend_singles(call, head_dim, index, count);
}

void attention(const AttentionCall& call) {
  const bool q8 = call.kv.type == KvType::q8;
  if (q8 && call.queries == 1 && call.group < kQueryTile)
    return with_head_dim(call.kv.head_dim,
                         [&](auto head_dim) { attend_singles(call, head_dim, 0, call.kv.heads * call.group); });
  for (int64_t h = 0; h < call.kv.heads; ++h) {
    AttentionCall one = of_head(call, h);
    store_new(one);
    one.new_k = one.new_v = nullptr;
    if (q8) with_head_dim(call.kv.head_dim, [&](auto head_dim) { attend_q8(one, head_dim); });
    else
      for (int64_t index = 0; index < one.queries * one.group; ++index) attend_one_float(one, index);
  }
}
