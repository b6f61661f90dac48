// Attention of one kv head over the blocked cache, written once for all instruction sets (see generic.inl).
//
// Orders: scores: lanes are positions, fma over d from 0; softmax sum: lane = position mod 16, then 8, 4, 2, 1;
// p . v: two sums (even and odd positions), each fma over positions in order, then even + odd, then times 1 / sum.

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

int64_t element_bytes(KvType type) { return type == KvType::f32 ? F32Elements::bytes : Bf16Elements::bytes; }

size_t kv_bytes(KvType type, int64_t positions, int64_t head_dim, bool values) {
  const int64_t elements = values ? positions * round_up(head_dim, kLanes) : round_up(positions, kPositionBlock) * head_dim;
  return static_cast<size_t>(round_up(elements * element_bytes(type), kAlign));
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

void kv_store(const KvView& kv, int64_t position, const float* k, const float* v) {
  if (kv.type == KvType::f32) return kv_store_as<F32Elements>(kv, position, k, v);
  kv_store_as<Bf16Elements>(kv, position, k, v);
}

void kv_copy(const KvView& from, const KvView& to, int64_t count) {
  // Whole blocks of K: positions past `count` are never read before they are written.
  __builtin_memcpy(to.k, from.k,
                   static_cast<size_t>(round_up(count, kPositionBlock) * from.head_dim * element_bytes(from.type)));
  __builtin_memcpy(to.v, from.v,
                   static_cast<size_t>(count * round_up(from.head_dim, kLanes) * element_bytes(from.type)));
}

size_t attention_scratch_floats(int64_t positions, int64_t head_dim) {
  return static_cast<size_t>(round_up(positions, kPositionBlock) + round_up(head_dim, kLanes));
}

// scores of `Blocks` consecutive position blocks.
template <typename Elements, int Blocks>
void score_blocks(const uint8_t* k, const float* q, int64_t head_dim, float* scores) {
  const int64_t step = kPositionBlock * Elements::bytes;
  F16 sums[Blocks];
  TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) sums[b] = set1(0.0f);
  for (int64_t d = 0; d < head_dim; ++d) {
    const F16 element = set1(q[d]);
    TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) sums[b] = fma(element, Elements::read(k + (b * head_dim + d) * step), sums[b]);
  }
  TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) store(scores + b * kPositionBlock, sums[b]);
}

// Replaces scores[begin - begin % 16 .. end) by exp(score - max), zero outside [begin, end); returns the sum.
float softmax_weights(float* scores, int64_t begin, int64_t end) {
  const int64_t from = begin - begin % kPositionBlock, to = round_up(end, kPositionBlock);
  for (int64_t t = from; t < begin; ++t) scores[t] = kMinusInfinity;
  for (int64_t t = end; t < to; ++t) scores[t] = kMinusInfinity;
  F16 top = load(scores + from);
  for (int64_t t = from + kLanes; t < to; t += kLanes) top = max16(load(scores + t), top);
  const F16 max = set1(fold_max(top));
  F16 sum = set1(0.0f);
  for (int64_t t = from; t < to; t += kLanes) {
    const F16 weight = exp16(sub(load(scores + t), max));
    store(scores + t, weight);
    sum = add(sum, weight);
  }
  return fold_add(sum);
}

// out[0 .. 16 Chunks) = sum over positions of weight * v, times `inverse`.
template <typename Elements, int Chunks>
void mix_values(const uint8_t* v, int64_t row_bytes, const float* weights, int64_t begin, int64_t end, float inverse,
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

template <typename Elements>
void attend(const AttentionCall& call, const float* q, int64_t begin, int64_t end, float* out) {
  const int64_t head_dim = call.kv.head_dim;
  const int64_t padded = round_up(head_dim, kLanes);
  float* scaled = call.scratch;
  float* scores = call.scratch + padded;
  for (int64_t d = 0; d < head_dim; d += kLanes)
    store_some(scaled + d, mul(load_some(q + d, head_dim - d, 0.0f), set1(call.scale)), head_dim - d);

  const uint8_t* k = static_cast<const uint8_t*>(call.kv.k);
  const int64_t block_bytes = kPositionBlock * head_dim * Elements::bytes;
  const int64_t last = round_up(end, kPositionBlock) / kPositionBlock;
  int64_t b = begin / kPositionBlock;
  for (; b + 4 <= last; b += 4)
    score_blocks<Elements, 4>(k + b * block_bytes, scaled, head_dim, scores + b * kPositionBlock);
  if (b + 2 <= last) {
    score_blocks<Elements, 2>(k + b * block_bytes, scaled, head_dim, scores + b * kPositionBlock);
    b += 2;
  }
  if (b < last) score_blocks<Elements, 1>(k + b * block_bytes, scaled, head_dim, scores + b * kPositionBlock);

  const float inverse = 1.0f / softmax_weights(scores, begin, end);
  const uint8_t* v = static_cast<const uint8_t*>(call.kv.v);
  const int64_t row_bytes = padded * Elements::bytes;
  int64_t d = 0;
  for (; d + 2 * kLanes <= padded; d += 2 * kLanes)
    mix_values<Elements, 2>(v + d * Elements::bytes, row_bytes, scores, begin, end, inverse, out + d, head_dim - d);
  if (d < padded)
    mix_values<Elements, 1>(v + d * Elements::bytes, row_bytes, scores, begin, end, inverse, out + d, head_dim - d);
}

void attention(const AttentionCall& call) {
  for (int64_t i = 0; i < call.queries; ++i) {
    const int64_t end = call.first_position + i + 1;
    const int64_t begin = call.window > 0 && end > call.window ? end - call.window : 0;
    for (int64_t g = 0; g < call.group; ++g) {
      const float* q = call.q + i * call.q_stride + g * call.kv.head_dim;
      float* out = call.out + i * call.out_stride + g * call.kv.head_dim;
      if (call.kv.type == KvType::f32) attend<F32Elements>(call, q, begin, end, out);
      else attend<Bf16Elements>(call, q, begin, end, out);
    }
  }
}
