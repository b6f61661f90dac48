// Several queries of a q8 cache at once: prompts, and query heads that share a kv head. The integers are exact, so the
// bits are those of one query after the other, but keys and values are read once, and no query waits for another's
// softmax. Included by attention.inl.

constexpr int kQueryTile = static_cast<int>(kScratchQueries);

template <int Blocks, typename Dim>
TINYLM_NOINLINE void score_tile(const uint8_t* k, Dim head_dim, const TileQuery* tile, int64_t first,
                                const uint8_t* values) {
  const int64_t block_bytes = key_block_bytes(KvType::q8, head_dim), quads = round_up(head_dim, 4) / 4;
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
      TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) sums[i * Blocks + b] =
          dot4_keys(sums[i * Blocks + b], keys[b], four);
    }
  }
  TINYLM_UNROLL for (int i = 0; i < kQueryTile; ++i) {
    TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) {
      store_scores(tile[i].scores + (first + b) * kPositionBlock, sums[i * Blocks + b], tile[i].query,
                   k + b * block_bytes);
    }
  }
}

template <int Chunks, typename Dim>
TINYLM_NOINLINE void mix_tile(const uint8_t* v, Dim head_dim, const TileQuery* tile, int64_t begin, int64_t end,
                              const uint8_t* next, int64_t d) {
  const int64_t row_bytes = round_up(head_dim, kLanes);
  MixSum sums[kQueryTile * Chunks];
  TINYLM_UNROLL for (int i = 0; i < kQueryTile * Chunks; ++i) sums[i] = zero_mix();
  for (int64_t t = begin; t < end; t += 4) {
    TINYLM_UNROLL for (int c = 0; c < Chunks; ++c, next += 64) {
      fetch_near(next);
      const Values4 values = values4(v + t * row_bytes + 4 * d + c * 64);
      TINYLM_UNROLL for (int i = 0; i < kQueryTile; ++i) {
        sums[i * Chunks + c] = mix_values4(sums[i * Chunks + c], values, tile[i].weights.codes + t);
      }
    }
  }
  TINYLM_UNROLL for (int i = 0; i < kQueryTile; ++i) {
    TINYLM_UNROLL for (int c = 0; c < Chunks; ++c) {
      const int64_t at = d + c * kLanes;
      store_mixed(tile[i].out + at, mixed(sums[i * Chunks + c]), tile[i].weights, head_dim - at);
    }
  }
}

// The queries' integer weights, zero at the tile's other positions from .. to.
template <typename Dim>
void weigh_tile(const KvView& kv, Dim head_dim, TileQuery* tile, int64_t from, int64_t to, Ahead ahead) {
  bool alike = true;
  for (int i = 0; i < kQueryTile; ++i) alike = alike && first_block(tile[i]) == from && block_end(tile[i]) == to;
  if (alike && kWeighTogether == kQueryTile) return weigh<kWeighTogether>(kv, head_dim, tile, from, to, ahead);
  for (int i = 0; i < kQueryTile; ++i) {
    TileQuery& query = tile[i];
    weigh<1>(kv, head_dim, &query, first_block(query), block_end(query), i == 0 ? ahead : Ahead{nullptr, nullptr});
    int16_t* codes = reinterpret_cast<int16_t*>(query.scores);
    for (int64_t t = from; t < first_block(query); ++t) codes[t] = 0;
    for (int64_t t = block_end(query); t < to; ++t) codes[t] = 0;
  }
}

// Queries first .. first + kQueryTile. `last`: the call's last tile, during which the next head's cache is fetched.
template <typename Dim>
void attend_tile(const AttentionCall& call, Dim head_dim, int64_t first, bool last) {
  constexpr int Blocks = kTileSums / kQueryTile,
                Chunks = Blocks * static_cast<int>(sizeof(I16)) / static_cast<int>(sizeof(MixSum));
  static_assert(Chunks > 0, "kTileSums holds no MixSum for each query");
  const int64_t width = round_up(head_dim, kLanes);
  const int64_t end = call.first_position + (first + kQueryTile - 1) / call.group + 1,
                to = round_up(end, kPositionBlock);
  TileQuery tile[kQueryTile];
  for (int i = 0; i < kQueryTile; ++i) tile[i] = tile_query(call, head_dim, first + i, call.scratch + i * (width + to));
  const int64_t from = first_block(tile[0]);
  const uint8_t *k = static_cast<const uint8_t*>(call.kv.k), *v = static_cast<const uint8_t*>(call.kv.v);
  const uint8_t* next_k = last ? keys_of(call.next, call.kv) : k;
  const uint8_t* next_v = last ? values_of(call.next, call.kv) : v;
  int64_t b = from / kPositionBlock;
  for (; b + Blocks <= to / kPositionBlock; b += Blocks) score_tile<Blocks>(k, head_dim, tile, b, next_v);
  for (; b < to / kPositionBlock; ++b) score_tile<1>(k, head_dim, tile, b, next_v);
  const int64_t fetched = round_up(end - from, 4) * kLanes;  // bytes per chunk
  weigh_tile(call.kv, head_dim, tile, from, to, {last ? static_cast<const uint8_t*>(call.next.k) : nullptr, nullptr});
  int64_t d = 0;
  for (; d + Chunks * kLanes <= width; d += Chunks * kLanes, next_k += Chunks * fetched)
    mix_tile<Chunks>(v, head_dim, tile, from, end, next_k, d);
  for (; d < width; d += kLanes, next_k += fetched) mix_tile<1>(v, head_dim, tile, from, end, next_k, d);
}
