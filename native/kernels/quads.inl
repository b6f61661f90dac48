// The q8 block layout [K/4][16][4]: four consecutive weights of a channel lie in one 32-bit lane.
constexpr int64_t kQ8WeightBytes = 1;
constexpr uint8_t kPairSafe = 1;         // block flag: see below
constexpr int kPairLimit = 129;          // largest same-sign |w| + |w'| of adjacent weights (2j, 2j + 1) in such a block

// Whether an (a + 127) x w kernel with saturating int16 pair sums is exact: 254 * 129 < 2^15.
// (Of unlike signs the sum stays within 127 anyway.)
bool pair_safe(const int8_t* row, int64_t k) {
  int unsafe = 0;  // no early return: the compiler vectorises this loop
  for (int64_t i = 0; i + 1 < k; i += 2) {
    const int sum = row[i] + row[i + 1];  // beyond the limit only with equal signs: 129 > 127
    unsafe |= (sum > kPairLimit) | (sum < -kPairLimit);
  }
  return unsafe == 0;
}

void pack_q8_rows(const Matrix& to, int64_t row, int64_t rows, const MatrixSource& source) {
  bool safe = true;
  for (int64_t r = 0; r < rows; ++r) {
    const int8_t* from = static_cast<const int8_t*>(source.data) + (row + r) * to.k;
    uint8_t* lane = to.data + r * 4;
    const int64_t whole = to.k / 4 * 4;
    for (int64_t k = 0; k < whole; k += 4) __builtin_memcpy(lane + k * kLanes, from + k, 4);
    for (int64_t k = whole; k < to.k; ++k) lane[whole * kLanes + k % 4] = static_cast<uint8_t>(from[k]);
    int32_t sum = 0;
    for (int64_t k = 0; k < to.k; ++k) sum += from[k];
    to.row_sums[r] = sum;
    to.scales[r] = source.scales[row + r];
    safe = safe && pair_safe(from, to.k);
  }
  *to.block_flags = safe ? kPairSafe : 0;
}

int q8_weight(const uint8_t* block, int64_t lane, int64_t k) {
  return static_cast<int8_t>(block[k / 4 * 64 + lane * 4 + k % 4]);
}
