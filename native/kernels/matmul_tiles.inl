// What the int8 and int4 matmuls of all instruction sets share: where results go, and tiles of token rows.
// The includer defines kTileRows (at most 8).

struct Target {
  const Matrix& matrix;
  const uint8_t* rows;
  int64_t stride, m, padded;  // padded: K in elements, a multiple of kGroup
  float* y;
  int64_t y_stride;
  bool accumulate;

  const uint8_t* row(int64_t r) const { return rows + r * stride; }
  const uint8_t* bytes(int64_t r) const { return row_data(row(r)); }
};

Target target_of(const Matrix& matrix, const void* rows, int64_t m, float* y, int64_t y_stride, bool accumulate) {
  return Target{matrix,
                static_cast<const uint8_t*>(rows),
                static_cast<int64_t>(row_bytes(matrix.type, matrix.k)),
                m,
                round_up(matrix.k, kGroup),
                y,
                y_stride,
                accumulate};
}

TINYLM_INLINE void finish(const Target& to, F16 value, int64_t r, int64_t n, int64_t end) {
  const F16 v = mul(value, set1(row_header(to.row(r)).scale));
  write_channels(to.matrix, v, n, n + kLanes < end ? n + kLanes : end, to.y + r * to.y_stride, to.accumulate);
}

TINYLM_INLINE void finish_q8(const Target& to, I16 dot, int64_t r, int64_t n, int64_t end) {
  finish(to, mul(to_float(dot), load(to.matrix.scales + n)), r, n, end);
}

template <typename Step>
TINYLM_INLINE void run_tile(int64_t rows, int64_t r, const Step& step) {
  switch (rows) {
    case 1: return step.template run<1>(r);
    case 2: return step.template run<2>(r);
    case 3: return step.template run<3>(r);
    case 4: return step.template run<4>(r);
    case 5: return step.template run<5>(r);
    case 6: return step.template run<6>(r);
    case 7:
      if constexpr (kTileRows > 6) return step.template run<7>(r);
      else return;
    case 8:
      if constexpr (kTileRows > 7) return step.template run<8>(r);
      else return;
    default: return;
  }
}

// step.run<Rows>(first row) over m rows, in as few tiles as kTileRows allows, of nearly equal height.
template <typename Step>
TINYLM_INLINE void for_row_tiles(int64_t m, const Step& step) {
  const int64_t tiles = (m + kTileRows - 1) / kTileRows;
  for (int64_t t = 0, r = 0; t < tiles; ++t) {
    const int64_t rows = (m - r + tiles - t - 1) / (tiles - t);
    run_tile(rows, r, step);
    r += rows;
  }
}
