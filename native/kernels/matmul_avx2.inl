// int8 and int4 matmul of avx2.cpp: one packed block of 16 output channels against tiles of token rows.

const int16_t* words(const Target& to, int64_t r) {
  return reinterpret_cast<const int16_t*>(to.bytes(r) + to.padded);
}

TINYLM_INLINE __m256i broadcast4(const void* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm256_set1_epi32(word);
}
TINYLM_INLINE __m256i load_bytes(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }

// Any weights, few rows: |w| as the unsigned operand, so a pair sums to at most 2 * 127 * 127 < 2^15.
template <int Rows>
TINYLM_NOINLINE void signed_tile(const Target& to, const uint8_t* w, int64_t r, int64_t n, int64_t end) {
  I16 sums[Rows];
  TINYLM_UNROLL for (int i = 0; i < Rows; ++i) sums[i] = zero_int();
  const __m256i one = _mm256_set1_epi16(1), offset = _mm256_set1_epi8(kOffset);
  for (int64_t k = 0; k < to.padded; k += 4, w += 64) {
    const __m256i low = load_bytes(w), high = load_bytes(w + 32);
    const __m256i low_abs = _mm256_abs_epi8(low), high_abs = _mm256_abs_epi8(high);
    TINYLM_UNROLL for (int i = 0; i < Rows; ++i) {
      const __m256i a = _mm256_sub_epi8(broadcast4(to.bytes(r + i) + k), offset);
      const __m256i p = _mm256_maddubs_epi16(low_abs, _mm256_sign_epi8(a, low));
      const __m256i q = _mm256_maddubs_epi16(high_abs, _mm256_sign_epi8(a, high));
      sums[i].low = _mm256_add_epi32(sums[i].low, _mm256_madd_epi16(p, one));
      sums[i].high = _mm256_add_epi32(sums[i].high, _mm256_madd_epi16(q, one));
    }
  }
  TINYLM_UNROLL for (int i = 0; i < Rows; ++i) finish_q8(to, sums[i], r + i, n, end);
}

// Pair-safe weights: the stored a + 127 is the unsigned operand; 127 * (sum of a channel's weights) is taken off at the end.
template <int Rows>
TINYLM_NOINLINE void unsigned_tile(const Target& to, const uint8_t* w, int64_t r, int64_t n, int64_t end) {
  I16 sums[Rows];
  TINYLM_UNROLL for (int i = 0; i < Rows; ++i) sums[i] = zero_int();
  const __m256i one = _mm256_set1_epi16(1);
  for (int64_t k = 0; k < to.padded; k += 4, w += 64) {
    const __m256i low = load_bytes(w), high = load_bytes(w + 32);
    TINYLM_UNROLL for (int i = 0; i < Rows; ++i) {
      const __m256i a = broadcast4(to.bytes(r + i) + k);
      sums[i].low = _mm256_add_epi32(sums[i].low, _mm256_madd_epi16(_mm256_maddubs_epi16(a, low), one));
      sums[i].high = _mm256_add_epi32(sums[i].high, _mm256_madd_epi16(_mm256_maddubs_epi16(a, high), one));
    }
  }
  const I16 row_sums = load_int(to.matrix.row_sums + n);
  const __m256i offset = _mm256_set1_epi32(kOffset);
  const I16 excess = {_mm256_mullo_epi32(row_sums.low, offset), _mm256_mullo_epi32(row_sums.high, offset)};
  TINYLM_UNROLL for (int i = 0; i < Rows; ++i) finish_q8(to, sub_int(sums[i], excess), r + i, n, end);
}

constexpr int64_t kPanelWidth = 512;  // K of one widened panel: 16 KiB, half of the first-level cache
constexpr int64_t kPanelRows = 96;

// 16 channels x `width` int8 weights to int16 pairs [width/2][16][2], each quad as (0, 2), (1, 3).
void widen_panel(const uint8_t* w, int64_t width, int16_t* panel) {
  for (int64_t i = 0; i < width * kLanes; i += 64, panel += 64) {
    const __m256i low = load_bytes(w + i), high = load_bytes(w + i + 32);
    __m256i* out = reinterpret_cast<__m256i*>(panel);
    _mm256_store_si256(out, _mm256_srai_epi16(_mm256_slli_epi16(low, 8), 8));
    _mm256_store_si256(out + 1, _mm256_srai_epi16(_mm256_slli_epi16(high, 8), 8));
    _mm256_store_si256(out + 2, _mm256_srai_epi16(low, 8));
    _mm256_store_si256(out + 3, _mm256_srai_epi16(high, 8));
  }
}

// sums[Rows][16] += words . panel
template <int Rows>
TINYLM_NOINLINE void panel_tile(const int16_t* words, int64_t stride_words, const int16_t* panel, int64_t width,
                                int32_t* partial) {
  I16 sums[Rows];
  TINYLM_UNROLL for (int i = 0; i < Rows; ++i) sums[i] = load_int(partial + i * kLanes);
  for (int64_t k = 0; k < width; k += 2, panel += 32) {
    const __m256i low = load_bytes(panel), high = load_bytes(panel + 16);
    TINYLM_UNROLL for (int i = 0; i < Rows; ++i) {
      const __m256i a = broadcast4(words + i * stride_words + k);
      sums[i].low = _mm256_add_epi32(sums[i].low, _mm256_madd_epi16(a, low));
      sums[i].high = _mm256_add_epi32(sums[i].high, _mm256_madd_epi16(a, high));
    }
  }
  TINYLM_UNROLL for (int i = 0; i < Rows; ++i) store_int(partial + i * kLanes, sums[i]);
}

struct PanelStep {
  const Target& to;
  const int16_t* panel;
  int64_t row_begin, k, width;
  int32_t* partial;
  template <int Rows>
  void run(int64_t r) const {
    panel_tile<Rows>(words(to, row_begin + r) + k, to.stride / 2, panel, width, partial + r * kLanes);
  }
};

// Any weights, many rows.
void widened_block(const Target& to, const uint8_t* w, int64_t n, int64_t end) {
  alignas(64) int16_t panel[kPanelWidth * kLanes];
  alignas(64) int32_t partial[kPanelRows * kLanes];
  for (int64_t begin = 0; begin < to.m; begin += kPanelRows) {
    const int64_t count = to.m - begin < kPanelRows ? to.m - begin : kPanelRows;
    __builtin_memset(partial, 0, static_cast<size_t>(count * kLanes) * sizeof partial[0]);
    for (int64_t k = 0; k < to.padded; k += kPanelWidth) {
      const int64_t width = to.padded - k < kPanelWidth ? to.padded - k : kPanelWidth;
      widen_panel(w + k * kLanes, width, panel);
      for_row_tiles(count, PanelStep{to, panel, begin, k, width, partial});
    }
    for (int64_t r = 0; r < count; ++r) finish_q8(to, load_int(partial + r * kLanes), begin + r, n, end);
  }
}

struct SignedStep {
  const Target& to;
  const uint8_t* w;
  int64_t n, end;
  template <int Rows>
  void run(int64_t r) const { signed_tile<Rows>(to, w, r, n, end); }
};

struct UnsignedStep {
  const Target& to;
  const uint8_t* w;
  int64_t n, end;
  template <int Rows>
  void run(int64_t r) const { unsigned_tile<Rows>(to, w, r, n, end); }
};

constexpr int64_t kWidenFrom = 24;  // rows from which widening a panel pays (measured)

void matmul_q8(const Matrix& matrix, const void* rows, int64_t m, int64_t begin, int64_t end, float* y,
               int64_t y_stride, bool accumulate) {
  const Target to = target_of(matrix, rows, m, y, y_stride, accumulate);
  const int64_t block = block_bytes(matrix.type, matrix.k);
  for (int64_t n = begin; n < end; n += kLanes) {
    const uint8_t* w = matrix.data + n / kLanes * block;
    if (matrix.block_flags[n / kLanes] == kPairSafe) for_row_tiles(m, UnsignedStep{to, w, n, end});
    else if (m < kWidenFrom) for_row_tiles(m, SignedStep{to, w, n, end});
    else widened_block(to, w, n, end);
  }
}

// --- int4 --------------------------------------------------------------------------------------------------------------

// Eight channels. A group's 32 products reach at most 16 * 15 * 127 = 30480 in an int16 lane: one widening per group.
template <int Rows>
TINYLM_NOINLINE void q4_tile(const Target& to, const uint8_t* w, const float* scales, int64_t r, F16* values, bool high_half) {
  const __m256i one = _mm256_set1_epi16(1), nibble = _mm256_set1_epi8(15);
  __m256 sums[Rows];
  TINYLM_UNROLL for (int i = 0; i < Rows; ++i) sums[i] = _mm256_setzero_ps();
  for (int64_t g = 0; g < to.padded / kGroup; ++g, w += 256) {
    __m256i codes[8];
    TINYLM_UNROLL for (int q = 0; q < 4; ++q) {
      const __m256i both = load_bytes(w + q * 64);
      codes[q] = _mm256_and_si256(both, nibble);
      codes[q + 4] = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
    }
    const __m256 scale = _mm256_loadu_ps(scales + g * kLanes);
    TINYLM_UNROLL for (int i = 0; i < Rows; ++i) {
      const uint8_t* x = to.bytes(r + i) + g * kGroup;
      __m256i words = _mm256_maddubs_epi16(codes[0], broadcast4(x));
      TINYLM_UNROLL for (int q = 1; q < 8; ++q)
        words = _mm256_add_epi16(words, _mm256_maddubs_epi16(codes[q], broadcast4(x + 4 * q)));
      const __m256i excess = broadcast4(row_group_sums(to.row(r + i), to.matrix.k) + g);
      const __m256i dot = _mm256_sub_epi32(_mm256_madd_epi16(words, one), excess);
      sums[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, sums[i]);
    }
  }
  TINYLM_UNROLL for (int i = 0; i < Rows; ++i) (high_half ? values[i].high : values[i].low) = sums[i];
}

struct Q4Step {
  const Target& to;
  const uint8_t* w;
  const float* scales;
  int64_t n, end;
  template <int Rows>
  void run(int64_t r) const {
    F16 values[Rows];
    q4_tile<Rows>(to, w, scales, r, values, false);
    q4_tile<Rows>(to, w + 32, scales + 8, r, values, true);
    for (int i = 0; i < Rows; ++i) finish(to, values[i], r + i, n, end);
  }
};

void matmul_q4(const Matrix& matrix, const void* rows, int64_t m, int64_t begin, int64_t end, float* y,
               int64_t y_stride, bool accumulate) {
  const Target to = target_of(matrix, rows, m, y, y_stride, accumulate);
  for (int64_t n = begin; n < end; n += kLanes) {
    const int64_t b = n / kLanes;
    const Q4Step step{to, matrix.data + b * block_bytes(matrix.type, matrix.k),
                      matrix.scales + b * groups_of(matrix.k) * kLanes, n, end};
    for_row_tiles(m, step);
  }
}
