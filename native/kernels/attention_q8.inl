// Attention over a q8 cache: scores and mixes in exact integers. Included by attention.inl.
//
// A q8 cache needs of the includer: I16 and its functions, and
//   Query4, query4(p), dot4_keys(sum, keys, query)   sum += four products in each lane; keys are key + kKeyOffset
//   store_value(p, F16, t)                           16 integers as byte t of 16 words of four, each plus kValueOffset
//   store_weights(p, F16)                            16 integers 0..32767 (as x + kRoundMagic), in its order of four
//   kScoreBlocks     blocks of 16 positions whose scores are computed at once, 4..8
//   kMixSums         sums of 16 (each an I16) that a mix keeps at once, 4 or 8; at least four MixSums
//   kWeighTogether   queries of a tile whose weights are made at once, 1 or 4: as the registers allow
//   kTileSums        sums of 16 (each an I16) that a tile of queries keeps at once, a multiple of kQueryTile MixSums
//   Values4, values4(p)                              sixteen values of four positions each, value + kValueOffset
//   MixSum, zero_mix(), mix_values4(sum, values, p)  sum += over the four positions of value * weight
//   mixed(sum)                                       its sixteen integers

// A size that is known when the code is compiled. Attention of one query takes 9 (D=32) or 11 % (D=64) less time for
// it, in cache: fetches and loops of known length need no branches.
template <int64_t Size>
struct Fixed {
  constexpr operator int64_t() const { return Size; }
};

template <typename Body>
TINYLM_INLINE void with_head_dim(int64_t head_dim, const Body& body) {
  if (head_dim == 32) return body(Fixed<32>{});
  if (head_dim == 64) return body(Fixed<64>{});
  body(head_dim);
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

TINYLM_INLINE void store_scores(float* to, const I16& dots, const Query& query, const uint8_t* key_block) {
  const F16 key_scales = load(reinterpret_cast<const float*>(key_block));
  store(to, mul(mul(to_float(sub_int(dots, set1_int(query.excess))), set1(query.scale)), key_scales));
}

// `values`: as many of this head's values, fetched meanwhile. `later`: the same blocks of a later head's keys.
template <int Blocks, typename Dim>
TINYLM_NOINLINE void score_blocks_q8(const uint8_t* k, Dim head_dim, const Query& query, const uint8_t* values,
                                     const uint8_t* later, float* scores) {
  const int64_t block_bytes = key_block_bytes(KvType::q8, head_dim), quads = round_up(head_dim, 4) / 4;
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

template <typename Dim>
struct Int8Scores {
  const uint8_t *k, *v, *later_k;
  Dim head_dim;
  const Query& query;
  float* scores;
  template <int Blocks>
  TINYLM_INLINE void run(int64_t b) const {
    const int64_t at = b * key_block_bytes(KvType::q8, head_dim);
    score_blocks_q8<Blocks>(k + at, head_dim, query, v + b * (round_up(head_dim, 4) / 4) * 64, later_k + at,
                            scores + b * kPositionBlock);
  }
};

// The largest sum of integer weights, but for rounding: 2^23 * 127 < 2^31, so mixed sums fit. (With kValueOffset they
// may wrap beyond 65,792 positions; what is left without the excess is exact all the same.)
constexpr float kWeightSum = 8388608.0f;

struct IntegerWeights {
  const int16_t* codes;  // 0..32767, as store_weights lays each four
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

// What the largest integer weight stands for: it becomes 32767, or less where the weights' sum would pass kWeightSum; 0
// where all values are zero.
TINYLM_INLINE float weight_factor(float largest, float total) {
  const float by_largest = 32767.0f / largest, by_sum = kWeightSum / total;
  return !(largest >= kSmallestAmax) ? 0.0f : by_largest < by_sum ? by_largest : by_sum;
}

// Integer weights, in place of the scores, of N queries that see the same blocks of positions from .. to. Block by
// block for all of them: their chains of dependent steps overlap, and the values' scales are read once.
template <int N, typename Dim>
TINYLM_NOINLINE void weigh(const KvView& kv, Dim head_dim, TileQuery* tile, int64_t from, int64_t to, Ahead ahead) {
  const int64_t block_bytes = key_block_bytes(KvType::q8, head_dim);
  const uint8_t* value_scales =
      static_cast<const uint8_t*>(kv.k) + from / kPositionBlock * block_bytes + kPositionBlock * 4;
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
  for (int64_t t = from; t < to; t += kLanes, value_scales += block_bytes) {
    ahead.fetch_block(block_bytes, kPositionBlock * round_up(head_dim, kLanes));
    const F16 scales = load(reinterpret_cast<const float*>(value_scales));
    TINYLM_UNROLL for (int i = 0; i < N; ++i) {
      const F16 score = load(scores[i] + t), p = exp_below(sub(score, max[i]));
      // Scales outside [begin, end) may be anything.
      const F16 weight = less_select(score, masked, zero, mul(p, scales));
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
  for (int64_t t = from; t < to; t += kLanes) {
    TINYLM_UNROLL for (int i = 0; i < N; ++i) {
      const F16 rounded = add(mul(load(scores[i] + t), set1(factor[i])), magic);
      store_weights(reinterpret_cast<int16_t*>(scores[i]) + t, rounded);
      if constexpr (kValueOffset != 0) code_sums[i] = add_int(code_sums[i], integers_of(rounded));
    }
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

// Query `index` of a call of one query or one kv head, over positions and query heads; its scores and codes lie in
// `scratch`.
template <typename Dim>
TINYLM_INLINE TileQuery tile_query(const AttentionCall& call, Dim head_dim, int64_t index, float* scratch) {
  const int64_t across = call.kv.heads * call.group, row = index / across, at = index % across * head_dim,
                end = call.first_position + row + 1;
  const Query query =
      quantise_query(call.q + row * call.q_stride + at, head_dim, call.scale, reinterpret_cast<uint8_t*>(scratch));
  return {first_position_seen(call, end),        end,   scratch + round_up(head_dim, kLanes),
          call.out + row * call.out_stride + at, query, {}};
}

// --- One query at a time -------------------------------------------------------------------------------------------

// out[0..16 Chunks) = sum over positions of weight * value, times `scale`. `next`, `later`: as many bytes of the next
// head's keys and of a later one's values.
template <int Chunks, typename Dim>
TINYLM_NOINLINE void mix_values_q8(const uint8_t* v, Dim head_dim, const IntegerWeights& weights, int64_t begin,
                                   int64_t end, const uint8_t* next, const uint8_t* later, float* out, int64_t count) {
  // Several sums of each chunk, or the loop would wait for the last addition. Positions past `end` have weights of
  // zero.
  constexpr int Sums = kMixSums * static_cast<int>(sizeof(I16)) / static_cast<int>(sizeof(MixSum));
  constexpr int Splits = Sums / Chunks < 4 ? Sums / Chunks : 4;  // at most a block of positions a turn
  static_assert(Splits > 0, "kMixSums holds no MixSum for each chunk");
  const int64_t row_bytes = round_up(head_dim, kLanes);
  MixSum sums[Chunks * Splits];
  TINYLM_UNROLL for (int i = 0; i < Chunks * Splits; ++i) sums[i] = zero_mix();
  for (int64_t t = begin; t < end; t += 4 * Splits) {
    TINYLM_UNROLL for (int s = 0; s < Splits; ++s, next += 64 * Chunks, later += 64 * Chunks) {
      TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) {
        fetch_near(next + c * 64);
        fetch_far(later + c * 64);
        MixSum& sum = sums[c * Splits + s];
        sum = mix_values4(sum, values4(v + (t + 4 * s) * row_bytes + c * 64), weights.codes + t + 4 * s);
      }
    }
  }
  TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) {
    I16 sum = mixed(sums[c * Splits]);
    TINYLM_UNROLL for (int s = 1; s < Splits; ++s) sum = add_int(sum, mixed(sums[c * Splits + s]));
    store_mixed(out + c * kLanes, sum, weights, count - c * kLanes);
  }
}

// `next`, `later`: heads still to come.
template <typename Dim>
void mix_all_q8(const KvView& kv, Dim head_dim, const TileQuery& query, const Upcoming& next, const Upcoming& later) {
  const int64_t row_bytes = round_up(head_dim, kLanes), from = first_block(query), end = query.end;
  const int64_t fetched = round_up(end - from, 4) * kLanes;  // bytes per chunk
  const uint8_t* v = static_cast<const uint8_t*>(kv.v);
  const uint8_t* next_k = keys_of(next, kv) + from / kPositionBlock * key_block_bytes(KvType::q8, head_dim);
  const uint8_t* later_v = values_of(later, kv) + from * row_bytes;
  const auto mix = [&](auto chunks, int64_t d) {
    mix_values_q8<chunks>(v + 4 * d, head_dim, query.weights, from, end, next_k + d / kLanes * fetched,
                          later_v + d / kLanes * fetched, query.out + d, head_dim - d);
  };
  int64_t d = 0;
  for (; d + 4 * kLanes <= row_bytes; d += 4 * kLanes) mix(Fixed<4>{}, d);
  for (; d + 2 * kLanes <= row_bytes; d += 2 * kLanes) mix(Fixed<2>{}, d);
  if (d < row_bytes) mix(Fixed<1>{}, d);
}

// Queries first .. count of a call of one query, whose new key and value may be stored first, or of one head.
template <typename Dim>
void attend_singles(const AttentionCall& call, Dim head_dim, int64_t first, int64_t count) {
  for (int64_t index = first; index < count; ++index) {
    const int64_t head = index / call.group % call.kv.heads;
    const KvView kv = head_of(call.kv, head);
    const Upcoming next = upcoming(call, head + 1), later = upcoming(call, head + 2);
    if (call.new_k && index % call.group == 0)
      store_head(kv, call.first_position, call.new_k + head * head_dim, call.new_v + head * head_dim);
    TileQuery query = tile_query(call, head_dim, index, call.scratch);
    const Int8Scores<Dim> step{static_cast<const uint8_t*>(kv.k),
                               static_cast<const uint8_t*>(kv.v),
                               keys_of(later, kv),
                               head_dim,
                               query.query,
                               query.scores};
    const int64_t from = first_block(query), to = block_end(query);
    for_position_blocks(from / kPositionBlock, to / kPositionBlock, step);
    weigh<1>(kv, head_dim, &query, from, to, second_fetch(kv, next, later, from));
    mix_all_q8(kv, head_dim, query, next, later);
  }
}
