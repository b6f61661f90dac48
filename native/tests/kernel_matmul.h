// Weights of every type: packing, lookup and products against loops in double.
#pragma once

#include "kernel_support.h"

namespace tinylm::testing {

struct Weights {
  WeightType type;
  int64_t n, k;
  std::vector<uint8_t> data;
  std::vector<float> scales, bias;
  std::vector<double> values;  // row-major (n, k), dequantised without the scale for q8

  MatrixSource source() const { return {n, k, data.data(), scales.data(), bias.empty() ? nullptr : bias.data()}; }
};

// `extreme`: weights of full magnitude, so that a kernel that saturates is found out.
inline Weights random_weights(WeightType type, int64_t n, int64_t k, bool bias, bool extreme) {
  Weights w{type, n, k, {}, {}, {}, {}};
  const int64_t groups = (k + kGroup - 1) / kGroup;
  for (int64_t i = 0; i < n && bias; ++i) w.bias.push_back(normal());
  if (type == WeightType::q8)
    for (int64_t i = 0; i < n; ++i) w.scales.push_back(0.01f + std::fabs(normal(0.01f)));
  if (type == WeightType::q4)
    for (int64_t i = 0; i < n * groups; ++i) w.scales.push_back(0.01f + std::fabs(normal(0.01f)));
  for (int64_t r = 0; r < n; ++r) {
    const size_t row_bytes = static_cast<size_t>(type == WeightType::f32    ? 4 * k
                                                 : type == WeightType::bf16 ? 2 * k
                                                 : type == WeightType::q8   ? k
                                                                            : (k + 1) / 2);
    std::vector<uint8_t> row(row_bytes);
    for (int64_t i = 0; i < k; ++i) {
      const auto at = static_cast<size_t>(i);
      if (type == WeightType::f32) {
        const float v = normal();
        std::memcpy(&row[at * 4], &v, 4);
        w.values.push_back(v);
      } else if (type == WeightType::bf16) {
        const float v = normal();
        uint32_t bits;
        std::memcpy(&bits, &v, 4);
        bits &= 0xffff0000u;
        const auto half = static_cast<uint16_t>(bits >> 16);
        std::memcpy(&row[at * 2], &half, 2);
        float kept;
        std::memcpy(&kept, &bits, 4);
        w.values.push_back(kept);
      } else if (type == WeightType::q8) {
        int v = extreme ? (integer(0, 1) ? 127 : -127) : integer(-127, 127);
        if (extreme && r % 3 == 0) v = std::abs(v);
        row[at] = static_cast<uint8_t>(static_cast<int8_t>(v));
        w.values.push_back(v);
      } else {
        const int code = extreme ? (r % 2 ? 15 : 0) : integer(0, 15);
        row[at / 2] = static_cast<uint8_t>(row[at / 2] | code << (i % 2 * 4));
        w.values.push_back((code - 8) * static_cast<double>(w.scales[static_cast<size_t>(r * groups + i / kGroup)]));
      }
    }
    w.data.insert(w.data.end(), row.begin(), row.end());
  }
  return w;
}

struct Packed {
  Packed(const KernelTable& table, const Weights& w)
      : buffer(table.packed_bytes(w.type, w.n, w.k)), matrix(table.matrix_view(w.type, w.n, w.k, buffer.data())) {
    table.pack_rows(matrix, 0, w.source());
  }
  Bytes buffer;
  Matrix matrix;
};

inline std::vector<float> run_matmul(const KernelTable& table, const Packed& packed, const Floats& x, int64_t m,
                                     int64_t split, bool accumulate, int64_t shift) {
  const Matrix& w = packed.matrix;
  const size_t row = table.row_bytes(w.type, w.k);
  Bytes rows(row * static_cast<size_t>(m));
  for (int64_t r = 0; r < m; ++r)
    table.prepare_row(w.type, x.data() + r * w.k, w.k, rows.data() + row * static_cast<size_t>(r));
  const int64_t stride = w.n + 3;
  Floats y(m * stride, shift, 0.25f);
  table.matmul(w, rows.data(), m, 0, split, y.data(), stride, accumulate);
  table.matmul(w, rows.data(), m, split, w.n, y.data(), stride, accumulate);
  bool intact = y.guard_intact();
  for (int64_t r = 0; r < m; ++r)
    for (int64_t c = w.n; c < stride; ++c) intact = intact && y[r * stride + c] == 0.25f;
  if (!intact)
    fail(table, text("matmul writes outside its channels, n=%d m=%d", static_cast<int>(w.n), static_cast<int>(m)));
  std::vector<float> out;
  for (int64_t r = 0; r < m; ++r) out.insert(out.end(), y.data() + r * stride, y.data() + r * stride + w.n);
  return out;
}

// What the numbers must be: integers exact, then doubles.
inline std::vector<double> wanted_matmul(const Weights& w, const Floats& x, int64_t m, bool accumulate) {
  std::vector<double> out;
  for (int64_t r = 0; r < m; ++r) {
    float amax = 0;
    for (int64_t i = 0; i < w.k; ++i) amax = std::max(amax, std::fabs(x[r * w.k + i]));
    const bool quantised = w.type == WeightType::q8 || w.type == WeightType::q4;
    for (int64_t c = 0; c < w.n; ++c) {
      double dot = 0;
      for (int64_t i = 0; i < w.k; ++i) {
        const float v = x[r * w.k + i];
        const double a = quantised ? (amax == 0 ? 0 : std::nearbyint(v * (127.0f / amax))) : v;
        dot += a * w.values[static_cast<size_t>(c * w.k + i)];
      }
      if (quantised) dot *= amax / 127.0f;
      if (w.type == WeightType::q8) dot *= w.scales[static_cast<size_t>(c)];
      out.push_back(dot + (w.bias.empty() ? 0 : w.bias[static_cast<size_t>(c)]) + (accumulate ? 0.25 : 0));
    }
  }
  return out;
}

inline void check_matmul(const KernelTable& table, const KernelTable& scalar, const Weights& w, int64_t m,
                         const char* kind) {
  Floats x(m * w.k, 1);
  for (int64_t i = 0; i < m * w.k; ++i) x[i] = normal();
  if (std::strcmp(kind, "extreme") == 0)
    for (int64_t i = 0; i < m * w.k; ++i)
      x[i] = i / w.k % 3 == 0 ? 1.0f : i / w.k % 3 == 1 ? -1.0f : (i % 2 ? 1.0f : -1.0f);
  // Neighbours whose int8 values sum to 127, 128, 129 and more: where saturating pair sums begin to be wrong.
  constexpr float kEdges[] = {-127, -65, -64, -63, -1, 0, 1, 2, 63, 64, 65, 127};
  if (std::strcmp(kind, "edges") == 0)
    for (int64_t i = 0; i < m * w.k; ++i) x[i] = i % w.k == 0 ? 1.0f : kEdges[integer(0, 11)] / 127.0f;
  if (m > 2)
    for (int64_t i = 0; i < w.k; ++i) x[i + w.k] = 0.0f;  // a row of zeros
  const Packed mine(table, w), reference(scalar, w);
  for (const bool accumulate : {false, true}) {
    const int64_t split = std::min(w.n, w.n / 2 / kLanes * kLanes);
    const std::vector<float> found = run_matmul(table, mine, x, m, split, accumulate, 1);
    const std::vector<float> other = run_matmul(scalar, reference, x, m, 0, accumulate, 0);
    const std::vector<double> want = wanted_matmul(w, x, m, accumulate);
    const std::string where = text("matmul type=%d n=%d k=%d m=%d %s", static_cast<int>(w.type), static_cast<int>(w.n),
                                   static_cast<int>(w.k), static_cast<int>(m), kind);
    if (!same_bits(found.data(), other.data(), static_cast<int64_t>(found.size())))
      fail(table, where + " differs from scalar");
    double magnitude = 1e-3;
    for (const double v : want) magnitude = std::max(magnitude, std::fabs(v));
    for (size_t i = 0; i < want.size(); ++i)
      if (!(std::fabs(found[i] - want[i]) <= 2e-6 * magnitude * std::sqrt(static_cast<double>(w.k)))) {
        fail(table, where + text(" [%d]: found %.9g, want %.9g", static_cast<int>(i), found[i], want[i]));
        break;
      }
  }
}

inline void test_matmul(const KernelTable& table, const KernelTable& scalar) {
  struct Shape {
    int64_t n, k;
  };
  const std::vector<Shape> shapes = {{1, 1},   {15, 31},  {16, 32},  {17, 33},  {33, 4},
                                     {48, 64}, {50, 172}, {80, 100}, {32, 544}, {130, 63}};
  for (const WeightType type : {WeightType::f32, WeightType::bf16, WeightType::q8, WeightType::q4})
    for (const Shape shape : shapes)
      for (const int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 26})
        check_matmul(table, scalar, random_weights(type, shape.n, shape.k, m % 2 == 0, false), m, "random");
  for (const int64_t m : {1, 2, 3, 6, 13, 30, 101}) {
    check_matmul(table, scalar, random_weights(WeightType::q8, 40, 1100, false, true), m, "extreme");
    check_matmul(table, scalar, random_weights(WeightType::q8, 40, 1100, true, true), m, "edges");
    check_matmul(table, scalar, random_weights(WeightType::q4, 40, 1100, false, true), m, "extreme");
  }
}

inline void test_unpack_and_stack(const KernelTable& table) {
  for (const WeightType type : {WeightType::f32, WeightType::bf16, WeightType::q8, WeightType::q4}) {
    const Weights top = random_weights(type, 32, 70, true, false), bottom = random_weights(type, 21, 70, false, false);
    Bytes buffer(table.packed_bytes(type, 53, 70));
    const Matrix stacked = table.matrix_view(type, 53, 70, buffer.data());
    table.pack_rows(stacked, 32, bottom.source());
    table.pack_rows(stacked, 0, top.source());
    for (int64_t r = 0; r < 53; ++r) {
      Floats out(70, 1);
      table.unpack_row(stacked, r, out.data());
      const Weights& from = r < 32 ? top : bottom;
      const int64_t row = r < 32 ? r : r - 32;
      for (int64_t i = 0; i < 70; ++i) {
        double want = from.values[static_cast<size_t>(row * 70 + i)];
        if (type == WeightType::q8) want *= from.scales[static_cast<size_t>(row)];
        if (out[i] != static_cast<float>(want)) {
          fail(table, text("unpack_row type=%d row=%d", static_cast<int>(type), static_cast<int>(r)));
          break;
        }
      }
    }
  }
}

}  // namespace tinylm::testing
