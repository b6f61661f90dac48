// Attention over a q8 cache: scores and mixes in exact integers. Included by attention.inl.
//
// A q8 cache needs of the includer: I16 and its functions, and
//   Query4, query4(p), dot4_keys(sum, keys, query)   sum += four products in each lane; keys stored as key + kKeyOffset
//   store_value(p, F16, t)                           16 integers as byte t of 16 words of four, each plus kValueOffset
//   store_weights(p, F16)                            16 integers 0..32767 (as x + kRoundMagic) to int16, in its own order of four
//   kScoreBlocks     blocks of 16 positions whose scores are computed at once, 4..8
//   kMixSums         sums of 16 that a mix keeps at once, 4 or 8
//   kWeighTogether   queries of a tile whose weights are made at once, 1 or 4: as the registers allow
//   kTileSums        sums of 16 that a tile of queries keeps at once, a multiple of kQueryTile
//   Values4, values4(p)                              sixteen values of four positions each, stored as value + kValueOffset
//   mix_values4(sum, values, p)                      sum += over the four positions of value * weight

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

TINYLM_INLINE void store_scores(float* to, const I16& dots, const Query& query, const uint8_t* key_block) {
  const F16 key_scales = load(reinterpret_cast<const float*>(key_block));
  store(to, mul(mul(to_float(sub_int(dots, set1_int(query.excess))), set1(query.scale)), key_scales));
}

// `values`: as many of this call's values, fetched meanwhile. `later`: the same blocks of a later call's keys.
template <int Blocks>
TINYLM_NOINLINE void score_blocks_q8(const uint8_t* k, int64_t block_bytes, const Query& query, int64_t quads,
                                     const uint8_t* values, const uint8_t* later, float* scores) {
  I16 sums[Blocks];
  TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) sums[b] = zero_int();
  for (int64_t quad = 0; quad < quads; ++quad) {
    const Query4 four = query4(query.codes + 4 * quad);
    TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) {
      fetch_near(values + (b * quads + quad) * 64);
      fetch_far(later + b * block_bytes + kKeyHeader + quad * 64);
      sums[b] = dot4_keys(sums[b], load_weights(k + b * block_bytes + kKeyHeader + quad * 64), four);
    }
  }
  TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) {
    for (int64_t i = 0; i < kKeyHeader; i += 64) fetch_far(later + b * block_bytes + i);
    store_scores(scores + b * kPositionBlock, sums[b], query, k + b * block_bytes);
  }
}

struct Int8Scores {
  const uint8_t *k, *v, *later_k;
  int64_t block_bytes, quads;
  const Query& query;
  float* scores;
  template <int Blocks>
  TINYLM_INLINE void run(int64_t b) const {
    score_blocks_q8<Blocks>(k + b * block_bytes, block_bytes, query, quads, v + b * quads * 64, later_k + b * block_bytes,
                            scores + b * kPositionBlock);
  }
};

void int8_scores(const AttentionCall& call, const float* q, int64_t begin, int64_t end, float* scaled, float* scores) {
  const int64_t head_dim = call.kv.head_dim;
  const Query query = quantise_query(q, head_dim, call.scale, reinterpret_cast<uint8_t*>(scaled));
  const Int8Scores step{static_cast<const uint8_t*>(call.kv.k), static_cast<const uint8_t*>(call.kv.v), keys_of(call.later, call.kv),
                        key_block_bytes(KvType::q8, head_dim), round_up(head_dim, 4) / 4, query, scores};
  for_position_blocks(begin / kPositionBlock, round_up(end, kPositionBlock) / kPositionBlock, step);
}

// The largest sum of integer weights: 2^23 * 255 < 2^31, so that mix_values4 cannot overflow.
constexpr float kWeightSum = 8388608.0f;

struct IntegerWeights {
  const int16_t* codes;  // 0..32767, in the order that store_weights gives each four
  int32_t excess;        // what kValueOffset adds to each mixed sum
  float scale;           // of the mixed sums
};

struct TileQuery {
  int64_t begin, end;  // positions that it sees
  float* scores;
  float* out;
  Query query;
  IntegerWeights weights;
};

// What the largest integer weight stands for: it becomes 32767, or less where the weights' sum would pass kWeightSum; 0 where
// all values are zero.
TINYLM_INLINE float weight_factor(float largest, float total) {
  const float by_largest = 32767.0f / largest, by_sum = kWeightSum / total;
  return !(largest >= kSmallestAmax) ? 0.0f : by_largest < by_sum ? by_largest : by_sum;
}

// Integer weights, in place of the scores, of N queries that see the same blocks of positions from .. to. Block by block for all
// of them: their chains of dependent steps overlap, and the values' scales are read once.
template <int N>
TINYLM_NOINLINE void weigh(const KvView& kv, TileQuery* tile, int64_t from, int64_t to, Ahead ahead) {
  const int64_t block_bytes = key_block_bytes(KvType::q8, kv.head_dim);
  const uint8_t* value_scales = static_cast<const uint8_t*>(kv.k) + kPositionBlock * 4;
  const F16 zero = set1(0.0f), masked = set1(-3e38f), magic = set1(kRoundMagic);
  F16 max[N], sum[N], weight_sum[N], top[N];
  float* scores[N];
  TINYLM_UNROLL for (int i = 0; i < N; ++i) {
    scores[i] = tile[i].scores;
    mask_ends(scores[i], tile[i].begin, tile[i].end);
    max[i] = load(scores[i] + from);
    sum[i] = weight_sum[i] = top[i] = zero;
  }
  for (int64_t t = from + kLanes; t < to; t += kLanes)
    TINYLM_UNROLL for (int i = 0; i < N; ++i) max[i] = max16(load(scores[i] + t), max[i]);
  TINYLM_UNROLL for (int i = 0; i < N; ++i) max[i] = set1(fold_max(max[i]));
  for (int64_t t = from; t < to; t += kLanes) {
    ahead.fetch_block();
    const F16 scales = load(reinterpret_cast<const float*>(value_scales + t / kPositionBlock * block_bytes));
    TINYLM_UNROLL for (int i = 0; i < N; ++i) {
      const F16 score = load(scores[i] + t), p = exp_below(sub(score, max[i]));
      const F16 weight = less_select(score, masked, zero, mul(p, scales));  // scales outside [begin, end) may be anything
      store(scores[i] + t, weight);
      sum[i] = add(sum[i], p);
      weight_sum[i] = add(weight_sum[i], weight);
      top[i] = max16(weight, top[i]);
    }
  }
  I16 code_sums[N];
  float factor[N];
  TINYLM_UNROLL for (int i = 0; i < N; ++i) {
    factor[i] = weight_factor(fold_max(top[i]), fold_add(weight_sum[i]));
    code_sums[i] = zero_int();
  }
  for (int64_t t = from; t < to; t += kLanes)
    TINYLM_UNROLL for (int i = 0; i < N; ++i) {
      const F16 rounded = add(mul(load(scores[i] + t), set1(factor[i])), magic);
      store_weights(reinterpret_cast<int16_t*>(scores[i]) + t, rounded);
      if constexpr (kValueOffset != 0) code_sums[i] = add_int(code_sums[i], integers_of(rounded));
    }
  TINYLM_UNROLL for (int i = 0; i < N; ++i) {
    tile[i].weights.scale = factor[i] == 0.0f ? 0.0f : 1.0f / (factor[i] * fold_add(sum[i]));
    tile[i].weights.codes = reinterpret_cast<const int16_t*>(scores[i]);
    tile[i].weights.excess = kValueOffset != 0 ? fold_int(code_sums[i]) * kValueOffset : 0;
  }
}

int64_t first_block(const TileQuery& query) { return query.begin / kPositionBlock * kPositionBlock; }
int64_t block_end(const TileQuery& query) { return round_up(query.end, kPositionBlock); }

TINYLM_INLINE void store_mixed(float* to, const I16& sum, const IntegerWeights& weights, int64_t count) {
  store_some(to, mul(to_float(sub_int(sum, set1_int(weights.excess))), set1(weights.scale)), count);
}

// out[0..16 Chunks) = sum over positions of weight * value, times `scale`. `next`, `later`: as many bytes of the next call's
// keys and of a later one's values.
template <int Chunks>
TINYLM_NOINLINE void mix_values_q8(const uint8_t* v, int64_t row_bytes, const IntegerWeights& weights, int64_t begin, int64_t end,
                                   const uint8_t* next, const uint8_t* later, float* out, int64_t count) {
  // Several sums of each chunk, or the loop would wait for the last addition. Positions past `end` have weights of zero.
  constexpr int Splits = kMixSums / Chunks < 4 ? kMixSums / Chunks : 4;  // at most a block of positions a turn
  I16 sums[Chunks * Splits];
  TINYLM_UNROLL for (int i = 0; i < Chunks * Splits; ++i) sums[i] = zero_int();
  for (int64_t t = begin; t < end; t += 4 * Splits)
    TINYLM_UNROLL for (int s = 0; s < Splits; ++s, next += 64 * Chunks, later += 64 * Chunks)
      TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) {
        fetch_near(next + c * 64);
        fetch_far(later + c * 64);
        I16& sum = sums[c * Splits + s];
        sum = mix_values4(sum, values4(v + (t + 4 * s) * row_bytes + c * 64), weights.codes + t + 4 * s);
      }
  TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) {
    I16 sum = sums[c * Splits];
    TINYLM_UNROLL for (int s = 1; s < Splits; ++s) sum = add_int(sum, sums[c * Splits + s]);
    store_mixed(out + c * kLanes, sum, weights, count - c * kLanes);
  }
}

void mix_all_q8(const AttentionCall& call, float* scores, int64_t begin, int64_t end, float* out) {
  const int64_t head_dim = call.kv.head_dim, row_bytes = round_up(head_dim, kLanes);
  const uint8_t* v = static_cast<const uint8_t*>(call.kv.v);
  TileQuery query{begin, end, scores, out, {}, {}};
  const int64_t from = first_block(query), fetched = round_up(end - from, 4) * kLanes;  // bytes per chunk
  const int64_t block_bytes = key_block_bytes(KvType::q8, head_dim), keys_begin = from / kPositionBlock * block_bytes;
  const uint8_t* next = keys_of(call.next, call.kv) + keys_begin;
  const uint8_t* later = values_of(call.later, call.kv) + from * row_bytes;
  weigh<1>(call.kv, &query, from, block_end(query), second_fetch(call, from));
  const IntegerWeights& weights = query.weights;
  int64_t d = 0;
  for (; d + 4 * kLanes <= row_bytes; d += 4 * kLanes, next += 4 * fetched, later += 4 * fetched)
    mix_values_q8<4>(v + 4 * d, row_bytes, weights, from, end, next, later, out + d, head_dim - d);
  for (; d + 2 * kLanes <= row_bytes; d += 2 * kLanes, next += 2 * fetched, later += 2 * fetched)
    mix_values_q8<2>(v + 4 * d, row_bytes, weights, from, end, next, later, out + d, head_dim - d);
  if (d < row_bytes) mix_values_q8<1>(v + 4 * d, row_bytes, weights, from, end, next, later, out + d, head_dim - d);
}

// --- Several queries at once: prompts, and query heads that share a kv head. The integers are exact, so the bits are those
// of one query after the other, but keys and values are read once, and no query waits for another's softmax. ---------------

constexpr int kQueryTile = static_cast<int>(kScratchQueries);

template <int Blocks>
TINYLM_NOINLINE void score_tile(const uint8_t* k, int64_t block_bytes, const TileQuery* tile, int64_t quads, int64_t first,
                                const uint8_t* values) {
  I16 sums[kQueryTile * Blocks];
  TINYLM_UNROLL for (int i = 0; i < kQueryTile * Blocks; ++i) sums[i] = zero_int();
  k += first * block_bytes;
  for (int64_t quad = 0; quad < quads; ++quad) {
    decltype(load_weights(k)) keys[Blocks];
    TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) {
      fetch_near(values + ((first + b) * quads + quad) * 64);
      keys[b] = load_weights(k + b * block_bytes + kKeyHeader + quad * 64);
    }
    TINYLM_UNROLL for (int i = 0; i < kQueryTile; ++i) {
      const Query4 four = query4(tile[i].query.codes + 4 * quad);
      TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) sums[i * Blocks + b] = dot4_keys(sums[i * Blocks + b], keys[b], four);
    }
  }
  TINYLM_UNROLL for (int i = 0; i < kQueryTile; ++i)
    TINYLM_UNROLL for (int b = 0; b < Blocks; ++b)
      store_scores(tile[i].scores + (first + b) * kPositionBlock, sums[i * Blocks + b], tile[i].query, k + b * block_bytes);
}

template <int Chunks>
TINYLM_NOINLINE void mix_tile(const uint8_t* v, int64_t row_bytes, const TileQuery* tile, int64_t begin, int64_t end,
                              const uint8_t* next, int64_t d, int64_t head_dim) {
  I16 sums[kQueryTile * Chunks];
  TINYLM_UNROLL for (int i = 0; i < kQueryTile * Chunks; ++i) sums[i] = zero_int();
  for (int64_t t = begin; t < end; t += 4)
    TINYLM_UNROLL for (int c = 0; c < Chunks; ++c, next += 64) {
      fetch_near(next);
      const Values4 values = values4(v + t * row_bytes + 4 * d + c * 64);
      TINYLM_UNROLL for (int i = 0; i < kQueryTile; ++i)
        sums[i * Chunks + c] = mix_values4(sums[i * Chunks + c], values, tile[i].weights.codes + t);
    }
  TINYLM_UNROLL for (int i = 0; i < kQueryTile; ++i)
    TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) {
      const int64_t at = d + c * kLanes;
      store_mixed(tile[i].out + at, sums[i * Chunks + c], tile[i].weights, head_dim - at);
    }
}

// Query `index` of a call, over positions and query heads; its scores and codes lie in `scratch`.
TileQuery tile_query(const AttentionCall& call, int64_t index, float* scratch) {
  const int64_t head_dim = call.kv.head_dim, row = index / call.group, head = index % call.group * head_dim;
  const int64_t end = call.first_position + row + 1;
  const Query query = quantise_query(call.q + row * call.q_stride + head, head_dim, call.scale, reinterpret_cast<uint8_t*>(scratch));
  return {first_position_seen(call, end), end, scratch + round_up(head_dim, kLanes), call.out + row * call.out_stride + head, query, {}};
}

// The queries' integer weights, zero at the tile's other positions from .. to.
void weigh_tile(const KvView& kv, TileQuery* tile, int64_t from, int64_t to, Ahead ahead) {
  bool alike = true;
  for (int i = 0; i < kQueryTile; ++i) alike = alike && first_block(tile[i]) == from && block_end(tile[i]) == to;
  if (alike && kWeighTogether == kQueryTile) return weigh<kWeighTogether>(kv, tile, from, to, ahead);
  for (int i = 0; i < kQueryTile; ++i) {
    TileQuery& query = tile[i];
    weigh<1>(kv, &query, first_block(query), block_end(query), i == 0 ? ahead : Ahead{ahead.keys, 0, nullptr, 0});
    int16_t* codes = reinterpret_cast<int16_t*>(query.scores);
    for (int64_t t = from; t < first_block(query); ++t) codes[t] = 0;
    for (int64_t t = block_end(query); t < to; ++t) codes[t] = 0;
  }
}

// Queries first .. first + kQueryTile. `last`: the call's last tile, during which the next call's cache is fetched.
void attend_tile(const AttentionCall& call, int64_t first, bool last) {
  constexpr int Blocks = kTileSums / kQueryTile, Chunks = kTileSums / kQueryTile;
  const int64_t head_dim = call.kv.head_dim, width = round_up(head_dim, kLanes), block_bytes = key_block_bytes(KvType::q8, head_dim);
  const int64_t quads = round_up(head_dim, 4) / 4;
  const int64_t end = call.first_position + (first + kQueryTile - 1) / call.group + 1, to = round_up(end, kPositionBlock);
  TileQuery tile[kQueryTile];
  for (int i = 0; i < kQueryTile; ++i) tile[i] = tile_query(call, first + i, call.scratch + i * (width + to));
  const int64_t from = tile[0].begin / kPositionBlock * kPositionBlock;
  const uint8_t *k = static_cast<const uint8_t*>(call.kv.k), *v = static_cast<const uint8_t*>(call.kv.v);
  const uint8_t* next_k = last ? keys_of(call.next, call.kv) : k;
  const uint8_t* next_v = last ? values_of(call.next, call.kv) : v;
  int64_t b = from / kPositionBlock;
  for (; b + Blocks <= to / kPositionBlock; b += Blocks) score_tile<Blocks>(k, block_bytes, tile, quads, b, next_v);
  for (; b < to / kPositionBlock; ++b) score_tile<1>(k, block_bytes, tile, quads, b, next_v);
  const int64_t fetched = round_up(end - from, 4) * kLanes;  // bytes per chunk
  weigh_tile(call.kv, tile, from, to, {next_k, last && call.next.k ? block_bytes : 0, nullptr, 0});
  int64_t d = 0;
  for (; d + Chunks * kLanes <= width; d += Chunks * kLanes, next_k += Chunks * fetched)
    mix_tile<Chunks>(v, width, tile, from, end, next_k, d, head_dim);
  for (; d < width; d += kLanes, next_k += fetched) mix_tile<1>(v, width, tile, from, end, next_k, d, head_dim);
}
