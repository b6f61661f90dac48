// Every table of this machine against a double-precision loop and, bit for bit, against the scalar table.
//
// usage: test_kernels [--require NAME]...   exit 1 on a failure, or where a required table is missing.
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

using namespace tinylm::kernels;

namespace {

int failures = 0;
std::mt19937 random_engine(20240521);

void fail(const KernelTable& table, const std::string& what) {
  if (++failures <= 40) std::printf("FAIL %s: %s\n", table.name, what.c_str());
}

template <typename... Args>
std::string text(const char* format, Args... args) {
  char buffer[256];
  std::snprintf(buffer, sizeof buffer, format, args...);
  return buffer;
}

float normal(float spread = 1.0f) { return std::normal_distribution<float>(0.0f, spread)(random_engine); }
int integer(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_engine); }

// A buffer that starts `shift` floats past a 64-byte boundary and ends in a guard, to find reads and writes outside.
class Floats {
 public:
  Floats(int64_t n, int64_t shift, float fill = 0.0f)
      : storage_(static_cast<size_t>(n + shift + 32), kGuard), n_(n) {
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

bool same_bits(const float* a, const float* b, int64_t n) {
  return n == 0 || std::memcmp(a, b, static_cast<size_t>(n) * 4) == 0;
}

// --- Elementwise -------------------------------------------------------------------------------------------------------

struct Elementwise {
  const char* name;
  double limit;  // of |found - wanted| relative to max(|wanted|, floor)
  double floor;
  std::function<void(const KernelTable&, float* x, const float* second, const float* third, int64_t n)> run;  // in place
  std::function<std::vector<double>(const float* x, const float* second, const float* third, int64_t n)> want;
};

std::vector<double> each(const float* x, int64_t n, const std::function<double(double)>& f) {
  std::vector<double> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(f(x[i]));
  return out;
}

std::vector<double> normalised(const float* x, const float* gain, const float* bias, int64_t n, bool centre) {
  double mean = 0, square = 0;
  for (int64_t i = 0; i < n; ++i) mean += x[i] / static_cast<double>(n);
  if (!centre) mean = 0;
  for (int64_t i = 0; i < n; ++i) square += (x[i] - mean) * (x[i] - mean) / static_cast<double>(n);
  std::vector<double> out;
  for (int64_t i = 0; i < n; ++i) out.push_back((x[i] - mean) / std::sqrt(square + 1e-5f) * gain[i] + (bias ? bias[i] : 0));
  return out;
}

// The gradient of sum(dy * gain * x / sqrt(mean(x^2) + eps)) in x, or in the gain.
std::vector<double> norm_gradient(const float* x, const float* gain, const float* dy, int64_t n, bool of_gain) {
  const std::vector<double> y = normalised(x, std::vector<float>(static_cast<size_t>(n), 1.0f).data(), nullptr, n, false);
  double square = 0, along = 0;
  for (int64_t i = 0; i < n; ++i) {
    square += static_cast<double>(x[i]) * x[i] / static_cast<double>(n);
    along += y[static_cast<size_t>(i)] * gain[i] * dy[i] / static_cast<double>(n);
  }
  std::vector<double> out;
  for (int64_t i = 0; i < n; ++i) {
    const double unit = y[static_cast<size_t>(i)];
    out.push_back(of_gain ? dy[i] * unit : (static_cast<double>(gain[i]) * dy[i] - unit * along) / std::sqrt(square + 1e-5f));
  }
  return out;
}

std::vector<double> swiglu_gradient(const float* gate, const float* up, const float* dy, int64_t n, bool of_up) {
  std::vector<double> out;
  for (int64_t i = 0; i < n; ++i) {
    const double a = gate[i], sigmoid = 1 / (1 + std::exp(-a));
    out.push_back(of_up ? dy[i] * a * sigmoid : static_cast<double>(dy[i]) * up[i] * (sigmoid + a * sigmoid * (1 - sigmoid)));
  }
  return out;
}

const std::vector<Elementwise>& elementwise_cases() {
  using T = const KernelTable&;
  using C = const float*;
  static const std::vector<Elementwise> cases = {
      {"rmsnorm", 2e-6, 1e-3, [](T t, float* x, C a, C, int64_t n) { t.rmsnorm(x, a, n, 1e-5f, x); },
       [](C x, C a, C, int64_t n) { return normalised(x, a, nullptr, n, false); }},
      {"layernorm", 6e-6, 1e-1, [](T t, float* x, C a, C b, int64_t n) { t.layernorm(x, a, b, n, 1e-5f, x); },
       [](C x, C a, C b, int64_t n) { return normalised(x, a, b, n, true); }},
      {"layernorm without bias", 6e-6, 1e-1, [](T t, float* x, C a, C, int64_t n) { t.layernorm(x, a, nullptr, n, 1e-5f, x); },
       [](C x, C a, C, int64_t n) { return normalised(x, a, nullptr, n, true); }},
      {"swiglu", 5e-7, 1e-30, [](T t, float* x, C a, C, int64_t n) { t.activate(Activation::swiglu, x, a, n, x); },
       [](C x, C a, C, int64_t n) {
         std::vector<double> out;
         for (int64_t i = 0; i < n; ++i) out.push_back(x[i] / (1 + std::exp(-static_cast<double>(x[i]))) * a[i]);
         return out;
       }},
      {"gelu", 5e-6, 1e-30, [](T t, float* x, C, C, int64_t n) { t.activate(Activation::gelu, x, nullptr, n, x); },
       [](C x, C, C, int64_t n) { return each(x, n, [](double v) { return 0.5 * v * std::erfc(-v / std::sqrt(2.0)); }); }},
      {"gelu_tanh", 5e-7, 1.0, [](T t, float* x, C, C, int64_t n) { t.activate(Activation::gelu_tanh, x, nullptr, n, x); },
       [](C x, C, C, int64_t n) {
         return each(x, n, [](double v) { return 0.5 * v * (1 + std::tanh(0.7978845608028654 * v * (1 + 0.044715 * v * v))); });
       }},
      {"relu2", 1e-7, 1e-30, [](T t, float* x, C, C, int64_t n) { t.activate(Activation::relu2, x, nullptr, n, x); },
       [](C x, C, C, int64_t n) { return each(x, n, [](double v) { return v > 0 ? v * v : 0; }); }},
      {"softcap", 3e-7, 1e-30, [](T t, float* x, C, C, int64_t n) { t.softcap(x, n, 3.0f); },
       [](C x, C, C, int64_t n) { return each(x, n, [](double v) { return 3 * std::tanh(v / 3); }); }},
      {"add", 1e-7, 1e-30, [](T t, float* x, C a, C, int64_t n) { t.add(x, a, n, x); },
       [](C x, C a, C, int64_t n) {
         std::vector<double> out;
         for (int64_t i = 0; i < n; ++i) out.push_back(static_cast<double>(x[i]) + a[i]);
         return out;
       }},
      {"rmsnorm_grad", 5e-6, 1.0,
       [](T t, float* x, C a, C b, int64_t n) {
         Floats gain(n, 1);
         t.rmsnorm_grad(x, a, b, n, 1e-5f, x, gain.data());
       },
       [](C x, C a, C b, int64_t n) { return norm_gradient(x, a, b, n, false); }},
      {"rmsnorm_grad of the weight", 5e-6, 1e-1,
       [](T t, float* x, C a, C b, int64_t n) {
         Floats gain(n, 1), rest(n, 0);
         t.rmsnorm_grad(x, a, b, n, 1e-5f, rest.data(), gain.data());
         std::memcpy(x, gain.data(), static_cast<size_t>(n) * 4);
       },
       [](C x, C a, C b, int64_t n) { return norm_gradient(x, a, b, n, true); }},
      {"swiglu_grad", 2e-6, 0.1,
       [](T t, float* x, C a, C b, int64_t n) {
         Floats up(n, 1);
         t.swiglu_grad(x, a, b, n, x, up.data());
       },
       [](C x, C a, C b, int64_t n) { return swiglu_gradient(x, a, b, n, false); }},
      {"swiglu_grad of up", 1e-6, 1e-3,
       [](T t, float* x, C a, C b, int64_t n) {
         Floats gate(n, 1);
         t.swiglu_grad(x, a, b, n, gate.data(), x);
       },
       [](C x, C a, C b, int64_t n) { return swiglu_gradient(x, a, b, n, true); }},
      // The argument is rounded to float first: a relative error of 6e-8 of up to 20.
      {"exp", 2e-6, 1e-30, [](T t, float* x, C, C, int64_t n) { t.exp(x, n, 2.0f, 1.25f, x); },
       [](C x, C, C, int64_t n) { return each(x, n, [](double v) { return std::exp((v - 2) * 1.25); }); }},
  };
  return cases;
}

void test_elementwise(const KernelTable& table, const KernelTable& scalar) {
  std::vector<int64_t> lengths;
  for (int64_t n = 0; n <= 2 * kLanes + 1; ++n) lengths.push_back(n);
  for (int64_t n : {63, 64, 65, 172, 1024}) lengths.push_back(n);
  for (const Elementwise& c : elementwise_cases())
    for (const int64_t n : lengths)
      for (const int64_t shift : {0, 1, 3}) {
        Floats x(n, shift), a(n, shift), b(n, 0);
        for (int64_t i = 0; i < n; ++i) x[i] = normal(3.0f), a[i] = normal(), b[i] = normal();
        const std::vector<double> want = c.want(x.data(), a.data(), b.data(), n);
        Floats mine = x, reference(n, 0);
        Floats found(n, shift);
        std::memcpy(found.data(), x.data(), static_cast<size_t>(n) * 4);
        std::memcpy(reference.data(), x.data(), static_cast<size_t>(n) * 4);
        c.run(table, found.data(), a.data(), b.data(), n);
        c.run(scalar, reference.data(), a.data(), b.data(), n);
        if (!found.guard_intact()) fail(table, text("%s writes past n=%d", c.name, static_cast<int>(n)));
        if (!same_bits(found.data(), reference.data(), n)) fail(table, text("%s differs from scalar at n=%d", c.name, static_cast<int>(n)));
        for (int64_t i = 0; i < n; ++i) {
          const double w = want[static_cast<size_t>(i)];
          const double error = std::fabs(found[i] - w) / std::max(std::fabs(w), c.floor);
          if (!(error <= c.limit)) fail(table, text("%s n=%d [%d]: found %.9g, want %.9g", c.name, static_cast<int>(n), static_cast<int>(i), found[i], w));
        }
      }
}

// Special values give the same bits everywhere, and the documented results.
void test_extremes(const KernelTable& table, const KernelTable& scalar) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> values = {0.0f, -0.0f, 1e-40f, -1e-40f, 87.0f, 89.0f, -87.2f, -88.0f, 1e30f, -1e30f, inf, -inf, nan, 0.625f};
  const auto n = static_cast<int64_t>(values.size());
  for (const Elementwise& c : elementwise_cases()) {
    Floats a(n, 0, 1.0f), b(n, 0, 0.5f), found(n, 0), reference(n, 0);
    std::memcpy(found.data(), values.data(), values.size() * 4);
    std::memcpy(reference.data(), values.data(), values.size() * 4);
    c.run(table, found.data(), a.data(), b.data(), n);
    c.run(scalar, reference.data(), a.data(), b.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      const bool both_nan = std::isnan(found[i]) && std::isnan(reference[i]);  // the payload may differ
      if (!both_nan && !same_bits(&found[i], &reference[i], 1))
        fail(table, text("%s of %g: %g, scalar %g", c.name, values[static_cast<size_t>(i)], found[i], reference[i]));
    }
  }
  float x[2] = {-inf, 5.0f}, y[2];
  table.exp(x, 2, 5.0f, 1.0f, y);
  if (y[0] != 0.0f || y[1] != 1.0f) fail(table, "exp(-inf) is 0 and exp(0) is 1");
}

void test_rope(const KernelTable& table, const KernelTable& scalar) {
  for (const int64_t head_dim : {2, 6, 8, 16, 32, 48, 64, 80, 128})
    for (const int64_t rotary : {head_dim, head_dim / 4 * 2}) {
      if (rotary == 0) continue;
      const int64_t heads = 3, n = heads * head_dim;
      Floats x(n, 1), reference(n, 0), cos(rotary / 2, 0), sin(rotary / 2, 1);
      rope_table(17, rotary, 10000.0, cos.data(), sin.data());
      for (int64_t i = 0; i < n; ++i) x[i] = reference[i] = normal();
      std::vector<double> want;
      for (int64_t i = 0; i < n; ++i) {
        const int64_t d = i % head_dim, half = rotary / 2, pair = d < half ? i + half : i - half;
        if (d >= rotary) { want.push_back(x[i]); continue; }
        const double angle = 17 * std::pow(10000.0, -2.0 * static_cast<double>(d % half) / static_cast<double>(rotary));
        want.push_back(x[i] * std::cos(angle) + (d < half ? -1 : 1) * x[pair] * std::sin(angle));
      }
      table.rope(x.data(), heads, head_dim, rotary, cos.data(), sin.data());
      scalar.rope(reference.data(), heads, head_dim, rotary, cos.data(), sin.data());
      if (!same_bits(x.data(), reference.data(), n) || !x.guard_intact()) fail(table, text("rope D=%d differs", static_cast<int>(head_dim)));
      for (int64_t i = 0; i < n; ++i)
        if (std::fabs(x[i] - want[static_cast<size_t>(i)]) > 5e-6) fail(table, text("rope D=%d [%d]", static_cast<int>(head_dim), static_cast<int>(i)));
    }
}

// --- Matmul ------------------------------------------------------------------------------------------------------------

struct Weights {
  WeightType type;
  int64_t n, k;
  std::vector<uint8_t> data;
  std::vector<float> scales, bias;
  std::vector<double> values;  // row-major (n, k), dequantised without the scale for q8

  MatrixSource source() const { return {n, k, data.data(), scales.data(), bias.empty() ? nullptr : bias.data()}; }
};

// `extreme`: weights of full magnitude, so that a kernel that saturates is found out.
Weights random_weights(WeightType type, int64_t n, int64_t k, bool bias, bool extreme) {
  Weights w{type, n, k, {}, {}, {}, {}};
  const int64_t groups = (k + kGroup - 1) / kGroup;
  for (int64_t i = 0; i < n && bias; ++i) w.bias.push_back(normal());
  if (type == WeightType::q8)
    for (int64_t i = 0; i < n; ++i) w.scales.push_back(0.01f + std::fabs(normal(0.01f)));
  if (type == WeightType::q4)
    for (int64_t i = 0; i < n * groups; ++i) w.scales.push_back(0.01f + std::fabs(normal(0.01f)));
  for (int64_t r = 0; r < n; ++r) {
    const size_t row_bytes = static_cast<size_t>(type == WeightType::f32 ? 4 * k : type == WeightType::bf16 ? 2 * k : type == WeightType::q8 ? k : (k + 1) / 2);
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

std::vector<float> run_matmul(const KernelTable& table, const Packed& packed, const Floats& x, int64_t m, int64_t split,
                              bool accumulate, int64_t shift) {
  const Matrix& w = packed.matrix;
  const size_t row = table.row_bytes(w.type, w.k);
  Bytes rows(row * static_cast<size_t>(m));
  for (int64_t r = 0; r < m; ++r) table.prepare_row(w.type, x.data() + r * w.k, w.k, rows.data() + row * static_cast<size_t>(r));
  const int64_t stride = w.n + 3;
  Floats y(m * stride, shift, 0.25f);
  table.matmul(w, rows.data(), m, 0, split, y.data(), stride, accumulate);
  table.matmul(w, rows.data(), m, split, w.n, y.data(), stride, accumulate);
  bool intact = y.guard_intact();
  for (int64_t r = 0; r < m; ++r)
    for (int64_t c = w.n; c < stride; ++c) intact = intact && y[r * stride + c] == 0.25f;
  if (!intact) fail(table, text("matmul writes outside its channels, n=%d m=%d", static_cast<int>(w.n), static_cast<int>(m)));
  std::vector<float> out;
  for (int64_t r = 0; r < m; ++r) out.insert(out.end(), y.data() + r * stride, y.data() + r * stride + w.n);
  return out;
}

// What the numbers must be: integers exact, then doubles.
std::vector<double> wanted_matmul(const Weights& w, const Floats& x, int64_t m, bool accumulate) {
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

void check_matmul(const KernelTable& table, const KernelTable& scalar, const Weights& w, int64_t m, const char* kind) {
  Floats x(m * w.k, 1);
  for (int64_t i = 0; i < m * w.k; ++i) x[i] = normal();
  if (std::strcmp(kind, "extreme") == 0)
    for (int64_t i = 0; i < m * w.k; ++i) x[i] = i / w.k % 3 == 0 ? 1.0f : i / w.k % 3 == 1 ? -1.0f : (i % 2 ? 1.0f : -1.0f);
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
    const std::string where = text("matmul type=%d n=%d k=%d m=%d %s", static_cast<int>(w.type), static_cast<int>(w.n), static_cast<int>(w.k), static_cast<int>(m), kind);
    if (!same_bits(found.data(), other.data(), static_cast<int64_t>(found.size()))) fail(table, where + " differs from scalar");
    double magnitude = 1e-3;
    for (const double v : want) magnitude = std::max(magnitude, std::fabs(v));
    for (size_t i = 0; i < want.size(); ++i)
      if (!(std::fabs(found[i] - want[i]) <= 2e-6 * magnitude * std::sqrt(static_cast<double>(w.k)))) {
        fail(table, where + text(" [%d]: found %.9g, want %.9g", static_cast<int>(i), found[i], want[i]));
        break;
      }
  }
}

void test_matmul(const KernelTable& table, const KernelTable& scalar) {
  struct Shape { int64_t n, k; };
  const std::vector<Shape> shapes = {{1, 1}, {15, 31}, {16, 32}, {17, 33}, {33, 4}, {48, 64}, {50, 172}, {80, 100}, {32, 544}, {130, 63}};
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

void test_unpack_and_stack(const KernelTable& table) {
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
        if (out[i] != static_cast<float>(want)) { fail(table, text("unpack_row type=%d row=%d", static_cast<int>(type), static_cast<int>(r))); break; }
      }
    }
  }
}

// --- Attention ---------------------------------------------------------------------------------------------------------

struct Cache {
  Cache(const KernelTable& table, KvType type, int64_t positions, int64_t head_dim)
      : k(table.kv_bytes(type, positions, head_dim, false)), v(table.kv_bytes(type, positions, head_dim, true)),
        view{type, head_dim, k.data(), v.data()} {}
  Bytes k, v;
  KvView view;
};

void check_attention(const KernelTable& table, const KernelTable& scalar, KvType type, int64_t head_dim, int64_t group,
                     int64_t length, int64_t queries, int64_t window) {
  Cache mine(table, type, length, head_dim), copy(table, type, length, head_dim), reference(scalar, type, length, head_dim);
  std::vector<float> keys, values;
  for (int64_t t = 0; t < length; ++t) {
    Floats k(head_dim, 1), v(head_dim, 3);
    for (int64_t d = 0; d < head_dim; ++d) k[d] = normal(), v[d] = normal();
    table.kv_store(mine.view, t, k.data(), v.data());
    scalar.kv_store(reference.view, t, k.data(), v.data());
    keys.insert(keys.end(), k.data(), k.data() + head_dim);
    values.insert(values.end(), v.data(), v.data() + head_dim);
  }
  table.kv_copy(mine.view, copy.view, length);
  const int64_t width = group * head_dim;
  Floats q(queries * width, 1), found(queries * width, 1), other(queries * width, 0);
  for (int64_t i = 0; i < queries * width; ++i) q[i] = normal();
  Bytes scratch(4 * std::max(table.attention_scratch_floats(length, head_dim), scalar.attention_scratch_floats(length, head_dim)));
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  AttentionCall call{copy.view, group, queries, length - queries, window, scale, q.data(), width, found.data(), width,
                     reinterpret_cast<float*>(scratch.data()), nullptr, nullptr};
  table.attention(call);
  call.kv = reference.view;
  call.out = other.data();
  scalar.attention(call);
  const std::string where = text("attention kv=%d D=%d group=%d T=%d queries=%d window=%d", static_cast<int>(type), static_cast<int>(head_dim),
                                 static_cast<int>(group), static_cast<int>(length), static_cast<int>(queries), static_cast<int>(window));
  if (!found.guard_intact()) fail(table, where + " writes past the end");
  if (!same_bits(found.data(), other.data(), queries * width)) fail(table, where + " differs from scalar");
  const double limit = type == KvType::f32 ? 1e-5 : 4e-2;
  for (int64_t i = 0; i < queries; ++i)
    for (int64_t g = 0; g < group; ++g) {
      const int64_t end = length - queries + i + 1, begin = window ? std::max<int64_t>(0, end - window) : 0;
      const float* qh = q.data() + i * width + g * head_dim;
      std::vector<double> weights;
      double sum = 0;
      for (int64_t t = begin; t < end; ++t) {
        double score = 0;
        for (int64_t d = 0; d < head_dim; ++d) score += static_cast<double>(qh[d]) * keys[static_cast<size_t>(t * head_dim + d)];
        weights.push_back(std::exp(score * scale));
        sum += weights.back();
      }
      for (int64_t d = 0; d < head_dim; ++d) {
        double want = 0;
        for (int64_t t = begin; t < end; ++t) want += weights[static_cast<size_t>(t - begin)] / sum * values[static_cast<size_t>(t * head_dim + d)];
        if (!(std::fabs(found[i * width + g * head_dim + d] - want) <= limit)) { fail(table, where + " is wrong"); return; }
      }
    }
}

void test_attention(const KernelTable& table, const KernelTable& scalar) {
  for (const KvType type : {KvType::f32, KvType::bf16, KvType::q8}) {
    for (int64_t length = 1; length <= 2 * kPositionBlock + 1; ++length) check_attention(table, scalar, type, 32, 1, length, 1, 0);
    for (const int64_t head_dim : {1, 8, 16, 24, 48, 64, 80, 96, 128})
      for (const int64_t length : {1, 15, 16, 50, 100, 257}) check_attention(table, scalar, type, head_dim, 1, length, std::min<int64_t>(length, 3), 0);
    for (const int64_t group : {2, 3, 4, 8}) check_attention(table, scalar, type, 64, group, 77, 5, 0);
    for (const int64_t queries : {1, 2, 7, 16, 33, 70}) check_attention(table, scalar, type, 32, 2, 70, queries, 0);
    for (const int64_t window : {1, 5, 16, 17, 40}) check_attention(table, scalar, type, 32, 1, 90, 20, window);
  }
}

// One query's result does not depend on the chunk it was computed in.
void test_attention_chunks(const KernelTable& table) {
  const int64_t length = 75, head_dim = 32, group = 2, width = group * head_dim;
  Cache cache(table, KvType::bf16, length, head_dim);
  Floats k(head_dim, 0), v(head_dim, 0), q(length * width, 0), whole(length * width, 0), parts(length * width, 0);
  for (int64_t t = 0; t < length; ++t) {
    for (int64_t d = 0; d < head_dim; ++d) k[d] = normal(), v[d] = normal();
    table.kv_store(cache.view, t, k.data(), v.data());
  }
  for (int64_t i = 0; i < length * width; ++i) q[i] = normal();
  Bytes scratch(4 * table.attention_scratch_floats(length, head_dim));
  AttentionCall call{cache.view, group, length, 0, 0, 0.2f, q.data(), width, whole.data(), width, reinterpret_cast<float*>(scratch.data()), nullptr, nullptr};
  table.attention(call);
  for (int64_t i = 0; i < length;) {
    const int64_t step = std::min<int64_t>(length - i, 1 + i % 5);
    call.first_position = i, call.queries = step, call.q = q.data() + i * width, call.out = parts.data() + i * width;
    table.attention(call);
    i += step;
  }
  if (!same_bits(whole.data(), parts.data(), length * width)) fail(table, "attention depends on the chunk");
}

// --- Sampling ----------------------------------------------------------------------------------------------------------

void test_sampling(const KernelTable& table, const KernelTable& scalar) {
  for (const int64_t n : {1, 2, 15, 16, 17, 63, 64, 65, 127, 129, 1000, 50257}) {
    Floats x(n, 1);
    for (int64_t i = 0; i < n; ++i) x[i] = normal(4.0f);
    const auto blocks = (n + kMaximaBlock - 1) / kMaximaBlock;
    Floats maxima(blocks, 1);
    const float top = table.block_max(x.data(), n, maxima.data());
    float want = x[0];
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) want = std::max(want, x[i]);
    for (int64_t i = 0; i < n; ++i) sum += std::exp((static_cast<double>(x[i]) - want) * 0.7);
    if (top != want || !maxima.guard_intact()) fail(table, text("block_max n=%d", static_cast<int>(n)));
    for (int64_t b = 0; b < blocks; ++b) {
      float best = x[b * kMaximaBlock];
      for (int64_t i = b * kMaximaBlock; i < std::min(n, (b + 1) * kMaximaBlock); ++i) best = std::max(best, x[i]);
      if (maxima[b] != best) fail(table, text("block_max n=%d block %d", static_cast<int>(n), static_cast<int>(b)));
    }
    const float found = table.sum_exp(x.data(), n, top, 0.7f);
    if (found != scalar.sum_exp(x.data(), n, top, 0.7f)) fail(table, text("sum_exp n=%d differs from scalar", static_cast<int>(n)));
    if (std::fabs(found - sum) > 1e-5 * sum) fail(table, text("sum_exp n=%d", static_cast<int>(n)));
    for (const float threshold : {want, want - 2.0f, -100.0f}) {
      std::vector<int32_t> indices(static_cast<size_t>(n) + 1, -1), expected;
      for (int64_t i = 0; i < n; ++i)
        if (x[i] >= threshold) expected.push_back(static_cast<int32_t>(i));
      const int64_t count = table.select_at_least(x.data(), n, maxima.data(), threshold, indices.data(), n);
      indices.resize(static_cast<size_t>(count));
      if (indices != expected) fail(table, text("select_at_least n=%d", static_cast<int>(n)));
      int32_t few[3] = {-1, -1, -1};
      if (table.select_at_least(x.data(), n, maxima.data(), threshold, few, 2) != count || few[2] != -1)
        fail(table, text("select_at_least with a small buffer, n=%d", static_cast<int>(n)));
    }
  }
}

void test_tables_of_double() {
  for (double x = 1e-300; x < 1e300; x *= 1.7)
    if (std::fabs(natural_log(x) / std::log(x) - 1) > 5e-16 && std::fabs(x - 1) > 0.1) { ++failures; std::printf("FAIL natural_log(%g)\n", x); }
  for (int64_t position = 0; position < 3000; position += 7) {
    float c[32], s[32];
    rope_table(position, 64, 10000.0, c, s);
    for (int64_t i = 0; i < 32; ++i) {
      const double angle = static_cast<double>(position) * std::pow(10000.0, -static_cast<double>(i) / 32);
      if (std::fabs(c[i] - std::cos(angle)) > 6e-8 || std::fabs(s[i] - std::sin(angle)) > 6e-8) {
        ++failures;
        std::printf("FAIL rope_table position %d pair %d\n", static_cast<int>(position), static_cast<int>(i));
      }
    }
  }
}

// --- One number for all -----------------------------------------------------------------------------------------------

// A hash of every kernel's output on integer-made data: equal on every machine, operating system and compiler.
class Digest {
 public:
  void add(const float* x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      uint32_t bits;
      std::memcpy(&bits, x + i, 4);
      value_ = (value_ ^ bits) * 1099511628211ull;
    }
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 14695981039346656037ull;
};

constexpr uint64_t kGoldenDigest = 0x329d36b0a9bbcc24;

uint64_t digest(const KernelTable& table) {
  uint32_t state = 1;
  const auto next = [&] { return static_cast<float>(static_cast<int32_t>((state = state * 1664525u + 1013904223u) >> 8) - (1 << 23)) / (1 << 21); };
  Digest hash;
  const int64_t k = 172, n = 50, m = 9;
  Floats x(k * m, 0), second(k, 0), y(n * m, 0);
  for (int64_t i = 0; i < k * m; ++i) x[i] = next();
  for (int64_t i = 0; i < k; ++i) second[i] = next();
  for (const Elementwise& c : elementwise_cases()) {
    Floats z(k, 0);
    std::memcpy(z.data(), x.data(), static_cast<size_t>(k) * 4);
    c.run(table, z.data(), second.data(), second.data(), k);
    hash.add(z.data(), k);
  }
  for (const WeightType type : {WeightType::f32, WeightType::bf16, WeightType::q8, WeightType::q4}) {
    Weights w{type, n, k, std::vector<uint8_t>(static_cast<size_t>(n * k * 4)), {}, {}, {}};
    for (size_t i = 0; i + 3 < w.data.size(); i += 4) {
      const float v = next();
      std::memcpy(&w.data[i], &v, 4);
      if (type == WeightType::q8)
        for (size_t j = i; j < i + 4; ++j) w.data[j] = static_cast<uint8_t>(static_cast<int>(next() * 31));
    }
    if (type == WeightType::bf16)
      for (size_t i = 0; i + 1 < w.data.size(); i += 2) w.data[i + 1] = static_cast<uint8_t>(0x3f | (w.data[i] & 0x80));
    for (int64_t i = 0; i < n * 6; ++i) w.scales.push_back(0.01f + 0.001f * static_cast<float>(i % 7));
    for (int64_t i = 0; i < n; ++i) w.bias.push_back(next());
    const Packed packed(table, w);
    const std::vector<float> out = run_matmul(table, packed, x, m, 32, true, 0);
    hash.add(out.data(), n * m);
  }
  for (const KvType type : {KvType::f32, KvType::bf16, KvType::q8}) {
    const int64_t head_dim = 40, length = 70;
    Cache cache(table, type, length, head_dim);
    for (int64_t t = 0; t < length; ++t) table.kv_store(cache.view, t, x.data() + t, x.data() + 3 * t);
    Bytes scratch(4 * table.attention_scratch_floats(length, head_dim));
    Floats out(head_dim * 2, 0);
    table.attention({cache.view, 2, 1, length - 1, 0, 0.15f, x.data(), 0, out.data(), 0, reinterpret_cast<float*>(scratch.data()), nullptr, nullptr});
    hash.add(out.data(), head_dim * 2);
  }
  Floats cos(32, 0), sin(32, 0);
  rope_table(211, 64, 10000.0, cos.data(), sin.data());
  table.rope(x.data(), 2, 80, 64, cos.data(), sin.data());
  hash.add(x.data(), 160);
  const float sum = table.sum_exp(x.data(), k * m, 4.0f, 1.1f);
  hash.add(&sum, 1);
  return hash.value();
}

void test_digest(const KernelTable& table) {
  const uint64_t found = digest(table);
  if (found != kGoldenDigest) fail(table, text("digest is %016llx", static_cast<unsigned long long>(found)));
}

}  // namespace

int main(int argc, char** argv) {
  const KernelTable* tables[8];
  const size_t count = available_kernels(tables, 8);
  const KernelTable& scalar = *find_kernels("scalar");
  for (int i = 1; i + 1 < argc; i += 2)
    if (std::strcmp(argv[i], "--require") == 0 && !find_kernels(argv[i + 1])) {
      ++failures;
      std::printf("FAIL required kernels %s are not available\n", argv[i + 1]);
    }
  if (find_kernels("avx1024")) ++failures, std::printf("FAIL an unknown name was found\n");
  test_tables_of_double();
  for (size_t i = 0; i < count; ++i) {
    const KernelTable& table = *tables[i];
    test_elementwise(table, scalar);
    test_extremes(table, scalar);
    test_rope(table, scalar);
    test_matmul(table, scalar);
    test_unpack_and_stack(table);
    test_attention(table, scalar);
    test_attention_chunks(table);
    test_sampling(table, scalar);
    test_digest(table);
    std::printf("tested %s\n", table.name);
  }
  std::printf("%d failures\n", failures);
  return failures ? 1 : 0;
}
