// Elementwise kernels, norms, rotations and their gradients against loops in double.
#pragma once

#include "kernel_support.h"

namespace tinylm::testing {

struct Elementwise {
  const char* name;
  double limit;  // of |found - wanted| relative to max(|wanted|, floor)
  double floor;
  std::function<void(const KernelTable&, float* x, const float* second, const float* third, int64_t n)>
      run;  // in place
  std::function<std::vector<double>(const float* x, const float* second, const float* third, int64_t n)> want;
};

inline std::vector<double> each(const float* x, int64_t n, const std::function<double(double)>& f) {
  std::vector<double> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(f(x[i]));
  return out;
}

inline std::vector<double> normalised(const float* x, const float* gain, const float* bias, int64_t n, bool centre) {
  double mean = 0, square = 0;
  for (int64_t i = 0; i < n; ++i) mean += x[i] / static_cast<double>(n);
  if (!centre) mean = 0;
  for (int64_t i = 0; i < n; ++i) square += (x[i] - mean) * (x[i] - mean) / static_cast<double>(n);
  std::vector<double> out;
  for (int64_t i = 0; i < n; ++i)
    out.push_back((x[i] - mean) / std::sqrt(square + 1e-5f) * gain[i] + (bias ? bias[i] : 0));
  return out;
}

// The gradient of sum(dy * gain * x / sqrt(mean(x^2) + eps)) in x, or in the gain.
inline std::vector<double> norm_gradient(const float* x, const float* gain, const float* dy, int64_t n, bool of_gain) {
  const std::vector<double> y =
      normalised(x, std::vector<float>(static_cast<size_t>(n), 1.0f).data(), nullptr, n, false);
  double square = 0, along = 0;
  for (int64_t i = 0; i < n; ++i) {
    square += static_cast<double>(x[i]) * x[i] / static_cast<double>(n);
    along += y[static_cast<size_t>(i)] * gain[i] * dy[i] / static_cast<double>(n);
  }
  std::vector<double> out;
  for (int64_t i = 0; i < n; ++i) {
    const double unit = y[static_cast<size_t>(i)];
    out.push_back(of_gain ? dy[i] * unit
                          : (static_cast<double>(gain[i]) * dy[i] - unit * along) / std::sqrt(square + 1e-5f));
  }
  return out;
}

inline std::vector<double> swiglu_gradient(const float* gate, const float* up, const float* dy, int64_t n, bool of_up) {
  std::vector<double> out;
  for (int64_t i = 0; i < n; ++i) {
    const double a = gate[i], sigmoid = 1 / (1 + std::exp(-a));
    out.push_back(of_up ? dy[i] * a * sigmoid
                        : static_cast<double>(dy[i]) * up[i] * (sigmoid + a * sigmoid * (1 - sigmoid)));
  }
  return out;
}

// (1 + tanh(y)) / 2 as the logistic function of 2 y, since 1 + tanh cancels in the negative tail.
inline double gelu_tanh(double v) { return v / (1 + std::exp(-1.5957691216057308 * v * (1 + 0.044715 * v * v))); }

inline const std::vector<Elementwise>& elementwise_cases() {
  using T = const KernelTable&;
  using C = const float*;
  static const std::vector<Elementwise> cases = {
      {"rmsnorm", 2e-6, 1e-3, [](T t, float* x, C a, C, int64_t n) { t.rmsnorm(x, a, n, 1e-5f, x); },
       [](C x, C a, C, int64_t n) { return normalised(x, a, nullptr, n, false); }},
      {"layernorm", 6e-6, 1e-1, [](T t, float* x, C a, C b, int64_t n) { t.layernorm(x, a, b, n, 1e-5f, x); },
       [](C x, C a, C b, int64_t n) { return normalised(x, a, b, n, true); }},
      {"layernorm without bias", 6e-6, 1e-1,
       [](T t, float* x, C a, C, int64_t n) { t.layernorm(x, a, nullptr, n, 1e-5f, x); },
       [](C x, C a, C, int64_t n) { return normalised(x, a, nullptr, n, true); }},
      {"swiglu", 5e-7, 1e-30, [](T t, float* x, C a, C, int64_t n) { t.activate(Activation::swiglu, x, a, n, x); },
       [](C x, C a, C, int64_t n) {
         std::vector<double> out;
         for (int64_t i = 0; i < n; ++i) out.push_back(x[i] / (1 + std::exp(-static_cast<double>(x[i]))) * a[i]);
         return out;
       }},
      {"gelu", 5e-6, 1e-30, [](T t, float* x, C, C, int64_t n) { t.activate(Activation::gelu, x, nullptr, n, x); },
       [](C x, C, C, int64_t n) {
         return each(x, n, [](double v) { return 0.5 * v * std::erfc(-v / std::sqrt(2.0)); });
       }},
      {"gelu_tanh", 5e-7, 1.0,
       [](T t, float* x, C, C, int64_t n) { t.activate(Activation::gelu_tanh, x, nullptr, n, x); },
       [](C x, C, C, int64_t n) { return each(x, n, gelu_tanh); }},
      {"gelu_tanh, its tail", 1e-5, 1e-30,
       [](T t, float* x, C, C, int64_t n) { t.activate(Activation::gelu_tanh, x, nullptr, n, x); },
       [](C x, C, C, int64_t n) { return each(x, n, gelu_tanh); }},
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

inline void test_elementwise(const KernelTable& table, const KernelTable& scalar) {
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
        if (!same_bits(found.data(), reference.data(), n))
          fail(table, text("%s differs from scalar at n=%d", c.name, static_cast<int>(n)));
        for (int64_t i = 0; i < n; ++i) {
          const double w = want[static_cast<size_t>(i)];
          const double error = std::fabs(found[i] - w) / std::max(std::fabs(w), c.floor);
          if (!(error <= c.limit))
            fail(table, text("%s n=%d [%d]: found %.9g, want %.9g", c.name, static_cast<int>(n), static_cast<int>(i),
                             found[i], w));
        }
      }
}

// Special values give the same bits everywhere, and the documented results.
inline void test_extremes(const KernelTable& table, const KernelTable& scalar) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> values = {0.0f,   -0.0f, 1e-40f, -1e-40f, 87.0f, 89.0f, -87.2f,
                                     -88.0f, 1e30f, -1e30f, inf,     -inf,  nan,   0.625f};
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

inline void test_rope(const KernelTable& table, const KernelTable& scalar) {
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
        if (d >= rotary) {
          want.push_back(x[i]);
          continue;
        }
        const double angle = 17 * std::pow(10000.0, -2.0 * static_cast<double>(d % half) / static_cast<double>(rotary));
        want.push_back(x[i] * std::cos(angle) + (d < half ? -1 : 1) * x[pair] * std::sin(angle));
      }
      table.rope(x.data(), heads, head_dim, rotary, cos.data(), sin.data());
      scalar.rope(reference.data(), heads, head_dim, rotary, cos.data(), sin.data());
      if (!same_bits(x.data(), reference.data(), n) || !x.guard_intact())
        fail(table, text("rope D=%d differs", static_cast<int>(head_dim)));
      for (int64_t i = 0; i < n; ++i)
        if (std::fabs(x[i] - want[static_cast<size_t>(i)]) > 5e-6)
          fail(table, text("rope D=%d [%d]", static_cast<int>(head_dim), static_cast<int>(i)));
    }
}

}  // namespace tinylm::testing
