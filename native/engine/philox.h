// Philox4x32-10, the counter-based generator of Salmon et al. 2011 ("Parallel random numbers: as easy as 1, 2, 3"):
// the random number at (sample, position) under a seed needs no state, so it cannot depend on what else runs.
#pragma once

#include <array>
#include <cstdint>

namespace tinylm::engine {

inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0], b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9u, key[1] += 0xBB67AE85u;
  }
  return counter;
}

// Uniform in [0, 1), 53 bits.
inline double uniform(uint64_t seed, uint64_t sample, uint64_t position) {
  const auto low = [](uint64_t x) { return static_cast<uint32_t>(x); };
  const auto high = [](uint64_t x) { return static_cast<uint32_t>(x >> 32); };
  const auto word = philox({low(position), high(position), low(sample), high(sample)}, {low(seed), high(seed)});
  return static_cast<double>((static_cast<uint64_t>(word[0]) << 32 | word[1]) >> 11) * 0x1p-53;
}

}  // namespace tinylm::engine
