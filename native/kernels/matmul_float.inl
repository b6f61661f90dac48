// f32 and bf16 matmul, written once: 16 output channels in lanes, k strictly in order with fma.

struct F32Weights {
  static constexpr int64_t bytes = 4;
  static TINYLM_INLINE F16 read(const uint8_t* p) { return load(reinterpret_cast<const float*>(p)); }
};

struct Bf16Weights {
  static constexpr int64_t bytes = 2;
  static TINYLM_INLINE F16 read(const uint8_t* p) { return load_bf16(reinterpret_cast<const uint16_t*>(p)); }
};

// Adds the bias and writes channels [begin, end) of one block.
TINYLM_INLINE void write_channels(const Matrix& matrix, F16 value, int64_t begin, int64_t end, float* y,
                                  bool accumulate) {
  F16 v = add(value, load(matrix.bias + begin));
  if (accumulate) v = add(load_some(y + begin, end - begin, 0.0f), v);
  store_some(y + begin, v, end - begin);
}

template <typename Weights, int Rows, int Blocks>
TINYLM_NOINLINE void float_tile(const Matrix& matrix, const uint8_t* rows, int64_t stride, int64_t begin, int64_t end,
                                float* y, int64_t y_stride, bool accumulate) {
  const int64_t step = kLanes * Weights::bytes, block = matrix.k * step;
  const uint8_t* w = matrix.data + begin / kLanes * block;
  F16 sums[Rows][Blocks];
  TINYLM_UNROLL for (int r = 0; r < Rows; ++r) TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) sums[r][b] = set1(0.0f);
  for (int64_t k = 0; k < matrix.k; ++k) {
    F16 weights[Blocks];
    TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) weights[b] = Weights::read(w + b * block + k * step);
    TINYLM_UNROLL for (int r = 0; r < Rows; ++r) {
      const F16 x = set1(reinterpret_cast<const float*>(rows + r * stride)[k]);
      TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) sums[r][b] = fma(x, weights[b], sums[r][b]);
    }
  }
  TINYLM_UNROLL for (int r = 0; r < Rows; ++r) {
    TINYLM_UNROLL for (int b = 0; b < Blocks; ++b) {
      const int64_t from = begin + b * kLanes;
      write_channels(matrix, sums[r][b], from, from + kLanes < end ? from + kLanes : end, y + r * y_stride, accumulate);
    }
  }
}

// All channels for `Rows` token rows, `Blocks` blocks at a time, then single blocks.
template <typename Weights, int Rows, int Blocks>
void float_rows(const Matrix& matrix, const uint8_t* rows, int64_t stride, int64_t begin, int64_t end, float* y,
                int64_t y_stride, bool accumulate) {
  int64_t n = begin;
  for (; n + (Blocks - 1) * kLanes < end; n += Blocks * kLanes)
    float_tile<Weights, Rows, Blocks>(matrix, rows, stride, n, end, y, y_stride, accumulate);
  for (; n < end; n += kLanes) float_tile<Weights, Rows, 1>(matrix, rows, stride, n, end, y, y_stride, accumulate);
}

template <typename Weights>
void matmul_float(const Matrix& matrix, const void* rows, int64_t m, int64_t begin, int64_t end, float* y,
                  int64_t y_stride, bool accumulate) {
  const int64_t stride = static_cast<int64_t>(row_bytes(matrix.type, matrix.k));
  const uint8_t* x = row_data(rows);
  // Channels outside, rows inside: a panel of weights stays in the first-level cache for all rows of the batch.
  const int64_t panel = kFloatTileBlocks * kLanes;
  if (m >= kFloatTileRows) {
    for (int64_t n = begin; n < end; n += panel) {
      const int64_t stop = n + panel < end ? n + panel : end;
      int64_t r = 0;
      for (; r + kFloatTileRows <= m; r += kFloatTileRows)
        float_rows<Weights, kFloatTileRows, kFloatTileBlocks>(matrix, x + r * stride, stride, n, stop, y + r * y_stride,
                                                              y_stride, accumulate);
      for (; r + 2 <= m; r += 2)
        float_rows<Weights, 2, kFloatTileBlocks>(matrix, x + r * stride, stride, n, stop, y + r * y_stride, y_stride,
                                                 accumulate);
      if (r < m)
        float_rows<Weights, 1, kFloatTileBlocks>(matrix, x + r * stride, stride, n, stop, y + r * y_stride, y_stride,
                                                 accumulate);
    }
    return;
  }
  int64_t r = 0;
  for (; r + 2 <= m; r += 2)
    float_rows<Weights, 2, kFloatPairBlocks>(matrix, x + r * stride, stride, begin, end, y + r * y_stride, y_stride,
                                             accumulate);
  if (r < m)
    float_rows<Weights, 1, kFloatSingleBlocks>(matrix, x + r * stride, stride, begin, end, y + r * y_stride, y_stride,
                                               accumulate);
}
