// int8 and int4 matmul of avx2.cpp: one packed block of 16 output channels against tiles of token rows.

TINYLM_INLINE __m256i broadcast4(const void* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm256_set1_epi32(word);
}
TINYLM_INLINE __m256i load_bytes(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }

// A spilled quad (see avx2.cpp): what was taken off four neighbouring activations.
constexpr int16_t kSafePair = 128;
struct Spill {
  int32_t quad, codes;
};
const Spill* spills_of(const uint8_t* row, int64_t padded) {
  return reinterpret_cast<const Spill*>(row_data(row) + padded);
}

// Adds up a row's activations and makes every pair of them safe, in place; what is taken off becomes spilled quads.
void finish_codes(uint8_t* row, int64_t padded) {
  uint8_t* codes = row + sizeof(RowHeader);
  Spill* spills = reinterpret_cast<Spill*>(codes + padded);
  const __m256i one = _mm256_set1_epi16(1), middle = _mm256_set1_epi8(static_cast<char>(0x80)),
                zero = _mm256_setzero_si256();
  __m256i sum = zero;
  int32_t count = 0;
  for (int64_t k = 0; k < padded; k += 32) {
    __m256i* at = reinterpret_cast<__m256i*>(codes + k);
    const __m256i a = _mm256_load_si256(at);
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), a);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, one));
    const __m256i unsafe = _mm256_cmpgt_epi16(_mm256_abs_epi16(pairs), _mm256_set1_epi16(kSafePair));
    if (_mm256_testz_si256(unsafe, unsafe)) continue;
    // (a + 1) >> 1, by way of unsigned bytes: of 127 + 127 remains 63 + 63, of -127 - 127 remains -64 - 64.
    const __m256i half = _mm256_xor_si256(_mm256_avg_epu8(_mm256_xor_si256(a, middle), middle), middle);
    const __m256i taken = _mm256_and_si256(half, unsafe);
    _mm256_store_si256(at, _mm256_sub_epi8(a, taken));
    alignas(32) int32_t quads[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(quads), taken);
    const __m256i untouched = _mm256_cmpeq_epi32(taken, zero);
    uint32_t touched = ~static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(untouched))) & 255;
    for (; touched; touched &= touched - 1) {
      const int lane = __builtin_ctz(touched);
      spills[count++] = {static_cast<int32_t>(k / 4) + lane, quads[lane]};
    }
  }
  RowHeader* header = reinterpret_cast<RowHeader*>(row);
  header->sum = fold_int({sum, zero});
  header->spills = count;
}

TINYLM_INLINE __m256i dot4_half(__m256i sum, __m256i w, __m256i a) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1)));
}

// sums[Rows] = products of the rows' spilled quads with 16 channels, less 128 times the sum of the row.
void spilled_sums(const Target& to, const uint8_t* w, int64_t r, int64_t rows, int32_t* sums) {
  for (const int64_t end = r + rows; r < end; ++r, sums += kLanes) {
    const RowHeader& header = row_header(to.row(r));
    const Spill* spill = spills_of(to.row(r), to.padded);
    __m256i low = _mm256_set1_epi32(-kWeightOffset * header.sum), high = low;
    for (int32_t i = 0; i < header.spills; ++i) {
      const __m256i codes = _mm256_set1_epi32(spill[i].codes);
      low = dot4_half(low, load_bytes(w + spill[i].quad * 64), codes);
      high = dot4_half(high, load_bytes(w + spill[i].quad * 64 + 32), codes);
    }
    store_int(sums, {low, high});
  }
}

// `next`: the block after this one, fetched meanwhile, since weights of all layers stay in no near cache. After the
// last one comes whatever the arena holds there, most often the next matrix; a fetch cannot fail.
template <int Rows>
TINYLM_NOINLINE void q8_tile(const Target& to, const uint8_t* w, const uint8_t* next, int64_t r, int64_t n,
                             int64_t end) {
  alignas(64) int32_t begun[Rows * kLanes];
  spilled_sums(to, w, r, Rows, begun);
  I16 sums[Rows];
  TINYLM_UNROLL for (int i = 0; i < Rows; ++i) sums[i] = load_int(begun + i * kLanes);
  const uint8_t* x = to.bytes(r);
  const int64_t stride = to.stride;
  for (const uint8_t* x_end = x + to.padded; x < x_end; x += 4, w += 64, next += 64) {
    _mm_prefetch(next, _MM_HINT_T0);
    // A half at a time, activations loaded twice: 12 sums, weights, ones and a product are 15 of 16 registers. Without
    // the barrier the compiler keeps the activations and puts sums in memory.
    const __m256i low = load_bytes(w);
    TINYLM_UNROLL for (int i = 0; i < Rows; ++i) sums[i].low = dot4_half(sums[i].low, low, broadcast4(x + i * stride));
    __asm__ volatile("" ::: "memory");
    const __m256i high = load_bytes(w + 32);
    TINYLM_UNROLL for (int i = 0; i < Rows; ++i) sums[i].high =
        dot4_half(sums[i].high, high, broadcast4(x + i * stride));
  }
  TINYLM_UNROLL for (int i = 0; i < Rows; ++i) finish_q8(to, sums[i], r + i, n, end);
}

struct Q8Step {
  const Target& to;
  const uint8_t *w, *next;
  int64_t n, end;
  template <int Rows>
  void run(int64_t r) const {
    q8_tile<Rows>(to, w, next, r, n, end);
  }
};

void matmul_q8(const Matrix& matrix, const void* rows, int64_t m, int64_t begin, int64_t end, float* y,
               int64_t y_stride, bool accumulate) {
  const Target to = target_of(matrix, rows, m, y, y_stride, accumulate);
  const int64_t block = block_bytes(matrix.type, matrix.k);
  for (int64_t n = begin; n < end; n += kLanes) {
    const uint8_t* w = matrix.data + n / kLanes * block;
    for_row_tiles(m, Q8Step{to, w, w + block, n, end});
  }
}

// --- int4 ----------------------------------------------------------------------------------------------------------

// Eight channels. A group's 32 products reach at most 16 * 15 * 127 = 30480 in an int16 lane: one widening per group.
template <int Rows>
TINYLM_NOINLINE void q4_tile(const Target& to, const uint8_t* w, const float* scales, int64_t r, F16* values,
                             bool high_half) {
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
      TINYLM_UNROLL for (int q = 1; q < 8; ++q) words =
          _mm256_add_epi16(words, _mm256_maddubs_epi16(codes[q], broadcast4(x + 4 * q)));
      const __m256i excess = broadcast4(row_group_sums(to.row(r + i), to.matrix.k) + g);
      const __m256i dot = _mm256_sub_epi32(_mm256_madd_epi16(words, one), excess);
      sums[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, sums[i]);
    }
  }
  TINYLM_UNROLL for (int i = 0; i < Rows; ++i)(high_half ? values[i].high : values[i].low) = sums[i];
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
