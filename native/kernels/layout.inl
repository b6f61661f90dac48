// Packed weights and activation rows, the same in all instruction sets but for what the includer defines:
//   store_codes(data, F16)       16 activations (integers held as x + kRoundMagic) as its q8 matmul wants them
//   kCodeBytes                   bytes of one such activation
//   store_signed(data, F16)      the same as int8; sum_group(data) sums kGroup of these; widen_bf16(x) is a float
//   kWeightFlip                  see quads.inl
//   finish_codes(row, padded)    defined later: what its q8 matmul wants to know of a whole row
//   pack_q8_rows(...)            int8 weights of up to 16 channels into one block; q8_weight(...) reads one back
//
//   TINYLM_UNROLL                       the pragma that keeps arrays of registers in registers
//
// One block is 16 output channels.
//   f32   [block][k][16]     bf16  [block][k][16], permuted within 16 by bf16_slot
//   q8    [block][K/4][16][4] bytes unless the includer says otherwise; K padded with zeros to a multiple of kGroup
//   q4    [block][K/32][4][16][4] bytes: byte (q, channel, j) holds element 4q + j in its low nibble and 16 + 4q + j in
//         its high nibble, as value + 8; scales [block][K/32][16]
// An activation row: 64 bytes of header, then the elements, then for q4 eight times the sum of each
// group (what the codes' offset of 8 adds to its dot product).

struct RowHeader {
  float scale;
  int32_t sum, spills;  // only of q8 rows on AVX2
  int32_t padding[13];
};

int64_t blocks_of(int64_t n) { return round_up(n, kLanes) / kLanes; }
int64_t groups_of(int64_t k) { return round_up(k, kGroup) / kGroup; }

int64_t block_bytes(WeightType type, int64_t k) {
  switch (type) {
    case WeightType::f32: return k * kLanes * 4;
    case WeightType::bf16: return k * kLanes * 2;
    case WeightType::q8: return round_up(k, kGroup) * kLanes * kQ8WeightBytes;
    case WeightType::q4: return round_up(k, kGroup) * kLanes / 2;
  }
  return 0;
}

int64_t scales_of(WeightType type, int64_t n, int64_t k) {
  if (type == WeightType::q8) return blocks_of(n) * kLanes;
  if (type == WeightType::q4) return blocks_of(n) * groups_of(k) * kLanes;
  return 0;
}

// Where each part of a packed matrix begins in its buffer, and where the buffer ends, in bytes.
struct Parts {
  int64_t scales, row_sums, bias, end;
};

Parts parts_of(WeightType type, int64_t n, int64_t k) {
  const int64_t channels = blocks_of(n) * kLanes;
  Parts p;
  p.scales = blocks_of(n) * block_bytes(type, k);
  p.row_sums = p.scales + scales_of(type, n, k) * 4;
  p.bias = p.row_sums + (type == WeightType::q8 ? channels * 4 : 0);
  p.end = p.bias + channels * 4;
  return p;
}

Matrix matrix_view(WeightType type, int64_t n, int64_t k, void* buffer) {
  uint8_t* data = static_cast<uint8_t*>(buffer);
  const Parts p = parts_of(type, n, k);
  return Matrix{type,
                n,
                k,
                data,
                reinterpret_cast<float*>(data + p.scales),
                reinterpret_cast<int32_t*>(data + p.row_sums),
                reinterpret_cast<float*>(data + p.bias)};
}

size_t packed_bytes(WeightType type, int64_t n, int64_t k) { return static_cast<size_t>(parts_of(type, n, k).end); }

void pack_float_rows(const Matrix& to, int64_t row, int64_t rows, const MatrixSource& source) {
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t lane = r;
    if (to.type == WeightType::f32) {
      const float* from = static_cast<const float*>(source.data) + (row + r) * to.k;
      float* block = reinterpret_cast<float*>(to.data);
      for (int64_t k = 0; k < to.k; ++k) block[k * kLanes + lane] = from[k];
    } else {
      const uint16_t* from = static_cast<const uint16_t*>(source.data) + (row + r) * to.k;
      uint16_t* block = reinterpret_cast<uint16_t*>(to.data);
      for (int64_t k = 0; k < to.k; ++k) block[k * kLanes + bf16_slot(lane)] = from[k];
    }
  }
}

int q4_code(const uint8_t* row, int64_t k) { return (row[k / 2] >> (k % 2 * 4)) & 15; }

void pack_q4_rows(const Matrix& to, int64_t row, int64_t rows, const MatrixSource& source) {
  const int64_t groups = groups_of(to.k), stride = (to.k + 1) / 2;
  for (int64_t r = 0; r < kLanes; ++r) {
    const uint8_t* from = static_cast<const uint8_t*>(source.data) + (row + r) * stride;
    for (int64_t i = 0; i < groups * kGroup / 2; ++i) {
      const int64_t low = i / 16 * kGroup + i % 16, high = low + 16;  // element numbers
      const int a = r < rows && low < to.k ? q4_code(from, low) : 8;
      const int b = r < rows && high < to.k ? q4_code(from, high) : 8;
      to.data[i / 4 * 64 + r * 4 + i % 4] = static_cast<uint8_t>(a | b << 4);
    }
    for (int64_t g = 0; g < groups && r < rows; ++g) to.scales[g * kLanes + r] = source.scales[(row + r) * groups + g];
  }
}

// The part of `matrix` that is block `block`, as a matrix of at most 16 rows.
Matrix block_of(const Matrix& matrix, int64_t block) {
  Matrix one = matrix;
  const int64_t row = block * kLanes;
  one.n = matrix.n - row < kLanes ? matrix.n - row : kLanes;
  one.data = matrix.data + block * block_bytes(matrix.type, matrix.k);
  one.scales = matrix.scales + (matrix.type == WeightType::q4 ? block * groups_of(matrix.k) * kLanes : row);
  one.row_sums = matrix.row_sums + row;
  one.bias = matrix.bias + row;
  return one;
}

void pack_rows(const Matrix& matrix, int64_t row_begin, const MatrixSource& source) {
  for (int64_t row = 0; row < source.n; row += kLanes) {
    const int64_t rows = source.n - row < kLanes ? source.n - row : kLanes;
    const Matrix to = block_of(matrix, (row_begin + row) / kLanes);
    if (matrix.type == WeightType::q8) pack_q8_rows(to, row, rows, source);
    else if (matrix.type == WeightType::q4) pack_q4_rows(to, row, rows, source);
    else pack_float_rows(to, row, rows, source);
    if (source.bias) __builtin_memcpy(to.bias, source.bias + row, static_cast<size_t>(rows) * 4);
  }
}

void unpack_row(const Matrix& matrix, int64_t row, float* out) {
  const Matrix from = block_of(matrix, row / kLanes);
  const int64_t lane = row % kLanes;
  for (int64_t k = 0; k < matrix.k; ++k) {
    switch (matrix.type) {
      case WeightType::f32: out[k] = reinterpret_cast<const float*>(from.data)[k * kLanes + lane]; break;
      case WeightType::bf16:
        out[k] = widen_bf16(reinterpret_cast<const uint16_t*>(from.data)[k * kLanes + bf16_slot(lane)]);
        break;
      case WeightType::q8: out[k] = static_cast<float>(q8_weight(from.data, lane, k)) * from.scales[lane]; break;
      case WeightType::q4: {
        const uint8_t codes = from.data[(k / kGroup * 4 + k % 16 / 4) * 64 + lane * 4 + k % 4];
        const int code = k % kGroup < 16 ? codes & 15 : codes >> 4;
        out[k] = static_cast<float>(code - 8) * from.scales[k / kGroup * kLanes + lane];
        break;
      }
    }
  }
}

size_t row_bytes(WeightType type, int64_t k) {
  const int64_t padded = round_up(k, kGroup);
  int64_t bytes = padded * 4;
  if (type == WeightType::q8) bytes = padded * kCodeBytes;
  if (type == WeightType::q4) bytes = padded + padded / kGroup * 4;
  return static_cast<size_t>(round_up(static_cast<int64_t>(sizeof(RowHeader)) + bytes, kAlign));
}

const uint8_t* row_data(const void* row) { return static_cast<const uint8_t*>(row) + sizeof(RowHeader); }
const RowHeader& row_header(const void* row) { return *static_cast<const RowHeader*>(row); }
[[maybe_unused]] const int32_t* row_group_sums(const void* row, int64_t k) {
  return reinterpret_cast<const int32_t*>(row_data(row) + round_up(k, kGroup));
}

void finish_codes(uint8_t* row, int64_t padded);

void prepare_row(WeightType type, const float* x, int64_t k, void* row) {
  uint8_t* data = static_cast<uint8_t*>(row) + sizeof(RowHeader);
  if (type == WeightType::f32 || type == WeightType::bf16) {
    __builtin_memcpy(data, x, static_cast<size_t>(k) * 4);
    return;
  }
  const float amax = absolute_max(x, k);
  static_cast<RowHeader*>(row)->scale = quantise_scale(amax);
  const F16 inverse = set1(quantise_factor(amax)), magic = set1(kRoundMagic);
  const int64_t padded = round_up(k, kGroup);
  for (int64_t i = 0; i < padded; i += kLanes) {
    const F16 rounded = add(mul(i < k ? load_some(x + i, k - i, 0.0f) : set1(0.0f), inverse), magic);
    if (type == WeightType::q8) store_codes(data + i, rounded);
    else store_signed(data + i, rounded);
  }
  if (type == WeightType::q8) return finish_codes(static_cast<uint8_t*>(row), padded);
  int32_t* sums = reinterpret_cast<int32_t*>(data + padded);
  for (int64_t g = 0; g < padded / kGroup; ++g) sums[g] = 8 * sum_group(data + g * kGroup);
}
