// What the kernel tests share: failures, random numbers, guarded buffers.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "../kernels/kernels.h"

namespace tinylm::testing {

using namespace tinylm::kernels;

inline int failures = 0;
inline std::mt19937 random_engine(20240521);

inline void fail(const KernelTable& table, const std::string& what) {
  if (++failures <= 40) std::printf("FAIL %s: %s\n", table.name, what.c_str());
}

template <typename... Args>
std::string text(const char* format, Args... args) {
  char buffer[256];
  std::snprintf(buffer, sizeof buffer, format, args...);
  return buffer;
}

inline float normal(float spread = 1.0f) { return std::normal_distribution<float>(0.0f, spread)(random_engine); }
inline int integer(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_engine); }

// A buffer that starts `shift` floats past a 64-byte boundary and ends in a guard, to find reads and writes outside.
class Floats {
 public:
  Floats(int64_t n, int64_t shift, float fill = 0.0f) : storage_(static_cast<size_t>(n + shift + 32), kGuard), n_(n) {
    const auto address = reinterpret_cast<uintptr_t>(storage_.data());
    begin_ = storage_.data() + (64 - address % 64) % 64 / 4 + shift;
    for (int64_t i = 0; i < n; ++i) begin_[i] = fill;
  }
  float* data() { return begin_; }
  const float* data() const { return begin_; }
  float& operator[](int64_t i) { return begin_[i]; }
  float operator[](int64_t i) const { return begin_[i]; }
  bool guard_intact() const {
    for (const float* p = begin_ + n_; p < storage_.data() + storage_.size(); ++p)
      if (*p != kGuard) return false;
    return true;
  }

 private:
  static constexpr float kGuard = -12345.5f;
  std::vector<float> storage_;
  float* begin_;
  int64_t n_;
};

class Bytes {
 public:
  explicit Bytes(size_t n) : data_(static_cast<uint8_t*>(std::aligned_alloc(64, (n + 63) / 64 * 64 + 64))) {
    std::memset(data_, 0, (n + 63) / 64 * 64 + 64);
  }
  Bytes(const Bytes&) = delete;
  ~Bytes() { std::free(data_); }
  uint8_t* data() { return data_; }

 private:
  uint8_t* data_;
};

inline bool same_bits(const float* a, const float* b, int64_t n) {
  return n == 0 || std::memcmp(a, b, static_cast<size_t>(n) * 4) == 0;
}

}  // namespace tinylm::testing
