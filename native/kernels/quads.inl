// The q8 block layout [K/4][16][4]: four consecutive weights of a channel lie in one 32-bit lane, each byte as
// weight ^ kWeightFlip (0x80 makes the unsigned w + 128 of it).
constexpr int64_t kQ8WeightBytes = 1;

void pack_q8_rows(const Matrix& to, int64_t row, int64_t rows, const MatrixSource& source) {
  constexpr uint32_t flip = kWeightFlip * 0x01010101u;
  for (int64_t r = 0; r < rows; ++r) {
    const int8_t* from = static_cast<const int8_t*>(source.data) + (row + r) * to.k;
    uint8_t* lane = to.data + r * 4;
    const int64_t whole = to.k / 4 * 4;
    for (int64_t k = 0; k < whole; k += 4) {
      uint32_t four;
      __builtin_memcpy(&four, from + k, 4);
      four ^= flip;
      __builtin_memcpy(lane + k * kLanes, &four, 4);
    }
    for (int64_t k = whole; k < to.k; ++k) lane[whole * kLanes + k % 4] = static_cast<uint8_t>(from[k]) ^ kWeightFlip;
    int32_t sum = 0;
    for (int64_t k = 0; k < to.k; ++k) sum += from[k];
    to.row_sums[r] = sum;
    to.scales[r] = source.scales[row + r];
  }
}

int q8_weight(const uint8_t* block, int64_t lane, int64_t k) {
  return static_cast<int8_t>(block[k / 4 * 64 + lane * 4 + k % 4] ^ kWeightFlip);
}
