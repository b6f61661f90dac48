// int8 and int4 matmul of the instruction sets that have a four-byte dot product, written once. The includer defines
//   Quad, broadcast4(p)                  four activations in every 32-bit lane
//   dot4(sum, activations, weights)      sum += the four products of each lane; activations are stored as a + kOffset
//   dot4_codes(sum, codes, activations)  the same for int4 codes 0..15 and signed activations
//   I16 load_weights(p), low_nibbles, high_nibbles, sub_int, add_int, times_int(x, int)
//   kOffset, kTileRows, kTileBlocks
//   kSums    sums of 16 channels that a tile keeps at least: the dot product instructions take a few cycles

void finish_codes(uint8_t*, int64_t) {}

// The addresses of up to eight rows. Six or more from one address take more registers than x86 has, and the compiler
// keeps what is left over in vector registers, where it waits behind all multiplications still queued, so that a tile
// begins late. From two addresses, and with `r` forgotten over the loop (dot_tile), on Zen 4 in cache: K=192 205-211 →
// 219-221, K=384 222 → 228, K=1024 229 → 233 GMAC/s. ARM has registers enough; there it is not measured.
template <int Rows>
struct RowAddresses {
  static constexpr int kNear = Rows > 5 ? 4 : Rows;
  const uint8_t *lower, *upper;
  int64_t stride;  // bytes

  TINYLM_INLINE RowAddresses(const uint8_t* first, int64_t row_stride)
      : lower(first), upper(Rows > kNear ? first + kNear * row_stride : first), stride(row_stride) {
    if constexpr (Rows > kNear) __asm__("" : "+r"(upper));  // or it would be counted from `lower` again
  }
  TINYLM_INLINE const uint8_t* row(int i) const {
    return i < kNear ? lower + i * stride : upper + (i - kNear) * stride;
  }
  TINYLM_INLINE void advance(int64_t bytes) { lower += bytes, upper += bytes; }
};

struct Fetch {  // what is brought into a near cache during a tile, step by step: up to a line of each block
  const uint8_t* from;
  int64_t step;  // bytes
};

// sums[Rows][Blocks] of `Rows` token rows x `Blocks` blocks of 16 channels. A small tile splits K over several sums
// (exact: integers). The sums are a plain one-dimensional local array: then the compiler keeps each in a register.
template <int Rows, int Blocks>
TINYLM_INLINE void dot_sums(const uint8_t* w, int64_t block, Fetch fetch, const uint8_t* x, int64_t stride,
                            int64_t padded, I16* results) {
  constexpr int Tile = Rows * Blocks;
  constexpr int Splits = Tile >= kSums ? 1 : Tile * 2 >= kSums ? 2 : Tile * 4 >= kSums ? 4 : 8;
  I16 sums[Tile * Splits];
  TINYLM_UNROLL for (int i = 0; i < Tile * Splits; ++i) sums[i] = zero_int();
  RowAddresses<Rows> rows(x, stride);
  for (int64_t k = 0; k < padded; k += 4 * Splits, w += 4 * Splits * kLanes, rows.advance(4 * Splits)) {
    TINYLM_UNROLL for (int s = 0; s < Splits; ++s) {
      I16 weights[Blocks];
      // One row reads one stream and does little else: the processor's own prefetchers are quicker there (W1 of
      // llama-20m and llama-8m on one Zen 5 thread + 18 and + 22 %).
      if constexpr (Rows > 1) {
        TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) fetch_far(fetch.from + b * 64);
        fetch.from += fetch.step;
      }
      TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) weights[b] = load_weights(w + b * block + 4 * s * kLanes);
      TINYLM_UNROLL for (int i = 0; i < Rows; ++i) {
        const Quad a = broadcast4(rows.row(i) + 4 * s);
        TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) sums[(i * Blocks + b) * Splits + s] =
            dot4(sums[(i * Blocks + b) * Splits + s], a, weights[b]);
      }
    }
  }
  TINYLM_UNROLL for (int i = 0; i < Tile; ++i) {
    I16 dot = sums[i * Splits];
    TINYLM_UNROLL for (int s = 1; s < Splits; ++s) dot = add_int(dot, sums[i * Splits + s]);
    results[i] = dot;
  }
}

// Writes whole blocks from registers; the general way takes several times the instructions (products of K=384 gain 6 %,
// of K=192 10 % on AVX-512).
template <int Rows, int Blocks, bool Accumulate>
TINYLM_INLINE void finish_tile(const Target& to, const I16* dots, int64_t r, int64_t n) {
  I16 excess[Blocks];
  F16 scales[Blocks], bias[Blocks];
  TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) {
    excess[b] = times_int(load_int(to.matrix.row_sums + n + b * kLanes), kOffset);
    scales[b] = load(to.matrix.scales + n + b * kLanes);
    bias[b] = load(to.matrix.bias + n + b * kLanes);
  }
  float* y = to.y + r * to.y_stride + n;
  const uint8_t* row = to.row(r);
  TINYLM_UNROLL for (int i = 0; i < Rows; ++i, y += to.y_stride, row += to.stride) {
    const F16 row_scale = set1(row_header(row).scale);
    TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) {
      const F16 value = mul(mul(to_float(sub_int(dots[i * Blocks + b], excess[b])), scales[b]), row_scale);
      const F16 v = add(value, bias[b]);
      store(y + b * kLanes, Accumulate ? add(load(y + b * kLanes), v) : v);
    }
  }
}

template <int Rows, int Blocks>
TINYLM_NOINLINE void finish_ragged_tile(const Target& to, const I16* dots, int64_t r, int64_t n, int64_t end) {
  for (int b = 0; b < Blocks; ++b) {
    const int64_t from = n + b * kLanes;
    const I16 excess = times_int(load_int(to.matrix.row_sums + from), kOffset);
    for (int i = 0; i < Rows; ++i)
      finish_q8(to, sub_int(dots[i * Blocks + b], excess), r + i, from, from + kLanes < end ? from + kLanes : end);
  }
}

template <int Rows, int Blocks>
TINYLM_NOINLINE void dot_tile(const Target& to, const uint8_t* w, int64_t block, int64_t r, int64_t n, int64_t end) {
  I16 dots[Rows * Blocks];
  // The next blocks, which lie in no near cache, are fetched meanwhile: each tile of rows brings its share, so that the
  // first of them does not wait for all (6 to 9 % of W2's products on AVX-512).
  const Fetch fetch{w + Blocks * block + Blocks * block * r / to.m, int64_t{Blocks} * 64 * Rows / to.m};
  dot_sums<Rows, Blocks>(w, block, fetch, to.bytes(r), to.stride, to.padded, dots);
  __asm__("" : "+r"(r));  // what follows from it is computed anew, see RowAddresses
  if (n + Blocks * kLanes > end) {
    I16 stored[Rows * Blocks];
    TINYLM_UNROLL for (int i = 0; i < Rows * Blocks; ++i) stored[i] = dots[i];
    return finish_ragged_tile<Rows, Blocks>(to, stored, r, n, end);
  }
  if (to.accumulate) finish_tile<Rows, Blocks, true>(to, dots, r, n);
  else finish_tile<Rows, Blocks, false>(to, dots, r, n);
}

template <int Blocks>
struct DotStep {
  const Target& to;
  const uint8_t* w;
  int64_t block, n, end;
  template <int Rows>
  void run(int64_t r) const {
    // One row is bound by reading the weights: one block at a time keeps them one sequential stream.
    if constexpr (Rows == 1 && Blocks > 1) {
      for (int b = 0; b < Blocks; ++b) dot_tile<1, 1>(to, w + b * block, block, r, n + b * kLanes, end);
    } else {
      dot_tile<Rows, Blocks>(to, w, block, r, n, end);
    }
  }
};

void matmul_q8(const Matrix& matrix, const void* rows, int64_t m, int64_t begin, int64_t end, float* y,
               int64_t y_stride, bool accumulate) {
  const Target to = target_of(matrix, rows, m, y, y_stride, accumulate);
  const int64_t block = block_bytes(matrix.type, matrix.k);
  int64_t n = begin;
  for (; n + (kTileBlocks - 1) * kLanes < end; n += kTileBlocks * kLanes)
    for_row_tiles(m, DotStep<kTileBlocks>{to, matrix.data + n / kLanes * block, block, n, end});
  for (; n < end; n += kLanes) for_row_tiles(m, DotStep<1>{to, matrix.data + n / kLanes * block, block, n, end});
}

template <int Rows>
TINYLM_NOINLINE void code_tile(const Target& to, const uint8_t* w, const float* scales, int64_t r, int64_t n,
                               int64_t end) {
  F16 values[Rows];
  TINYLM_UNROLL for (int i = 0; i < Rows; ++i) values[i] = set1(0.0f);
  RowAddresses<Rows> codes(to.bytes(r), to.stride);
  RowAddresses<Rows> sums(reinterpret_cast<const uint8_t*>(row_group_sums(to.row(r), to.matrix.k)), to.stride);
  for (int64_t g = 0; g < to.padded / kGroup; ++g, w += 256, codes.advance(kGroup), sums.advance(4)) {
    I16 dots[Rows];
    TINYLM_UNROLL for (int i = 0; i < Rows; ++i) dots[i] = zero_int();
    TINYLM_UNROLL for (int q = 0; q < 4; ++q) {
      const I16 both = load_weights(w + q * 64);
      const I16 low = low_nibbles(both), high = high_nibbles(both);
      TINYLM_UNROLL for (int i = 0; i < Rows; ++i) {
        const uint8_t* x = codes.row(i) + 4 * q;
        dots[i] = dot4_codes(dots[i], low, broadcast4(x));
        dots[i] = dot4_codes(dots[i], high, broadcast4(x + 16));
      }
    }
    const F16 scale = load(scales + g * kLanes);
    TINYLM_UNROLL for (int i = 0; i < Rows; ++i) {
      const I16 excess = set1_int(*reinterpret_cast<const int32_t*>(sums.row(i)));
      values[i] = fma(to_float(sub_int(dots[i], excess)), scale, values[i]);
    }
  }
  TINYLM_UNROLL for (int i = 0; i < Rows; ++i) finish(to, values[i], r + i, n, end);
}

struct CodeStep {
  const Target& to;
  const uint8_t* w;
  const float* scales;
  int64_t n, end;
  template <int Rows>
  void run(int64_t r) const {
    code_tile<Rows>(to, w, scales, r, n, end);
  }
};

void matmul_q4(const Matrix& matrix, const void* rows, int64_t m, int64_t begin, int64_t end, float* y,
               int64_t y_stride, bool accumulate) {
  const Target to = target_of(matrix, rows, m, y, y_stride, accumulate);
  for (int64_t n = begin; n < end; n += kLanes) {
    const int64_t b = n / kLanes;
    for_row_tiles(m, CodeStep{to, matrix.data + b * block_bytes(matrix.type, matrix.k),
                              matrix.scales + b * groups_of(matrix.k) * kLanes, n, end});
  }
}
