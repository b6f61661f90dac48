// The engine's kernels over whole arrays, for training: each replaces five to ten passes of a tensor library by one.
#include <pybind11/numpy.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "bindings.h"
#include "kernels.h"

namespace py = pybind11;

namespace tinylm::bindings {

namespace {

using Array = py::array_t<float, py::array::c_style>;  // never converted: results are written in place
using Indices = py::array_t<int64_t, py::array::c_style>;

const kernels::KernelTable& table() {
  static const kernels::KernelTable* fastest = kernels::find_kernels("auto");
  return *fastest;
}

void expect(bool good, const char* what) {
  if (!good) throw py::value_error(std::string("training kernels: ") + what);
}

struct Rows {
  int64_t count, width;
};

// All axes but the last are rows.
Rows rows_of(const Array& x) {
  expect(x.ndim() >= 1, "an array needs an axis");
  const int64_t width = x.shape(x.ndim() - 1);
  return {width ? x.size() / width : 0, width};
}

void expect_alike(const Array& x, std::initializer_list<const Array*> others) {
  for (const Array* other : others)
    expect(other->size() == x.size() && rows_of(*other).width == rows_of(x).width, "shapes differ");
}

void rms_norm(const Array& x, const Array& weight, float eps, Array& y) {
  const Rows rows = rows_of(x);
  expect_alike(x, {&y});
  expect(weight.size() == rows.width, "the weight is not as wide as the rows");
  const float *from = x.data(), *gain = weight.data();
  float* to = y.mutable_data();
  py::gil_scoped_release release;
  for (int64_t r = 0; r < rows.count; ++r)
    table().rmsnorm(from + r * rows.width, gain, rows.width, eps, to + r * rows.width);
}

void rms_norm_grad(const Array& x, const Array& weight, const Array& dy, float eps, Array& dx, Array& dweight) {
  const Rows rows = rows_of(x);
  expect_alike(x, {&dy, &dx});
  expect(weight.size() == rows.width && dweight.size() == rows.width, "a weight is not as wide as the rows");
  const float *from = x.data(), *gain = weight.data(), *grad = dy.data();
  float *to = dx.mutable_data(), *sum = dweight.mutable_data();
  py::gil_scoped_release release;
  for (int64_t r = 0; r < rows.count; ++r) {
    const int64_t at = r * rows.width;
    table().rmsnorm_grad(from + at, gain, grad + at, rows.width, eps, to + at, sum);
  }
}

// x: (B, T, heads, D), turned in place; cos, sin: (T, D / 2).
void rotate(Array& x, const Array& cos, const Array& sin) {
  expect(x.ndim() == 4 && cos.ndim() == 2, "rotate takes (B, T, heads, D) and (T, D / 2)");
  const int64_t B = x.shape(0), T = x.shape(1), heads = x.shape(2), D = x.shape(3), half = cos.shape(1);
  expect_alike(cos, {&sin});
  expect(cos.shape(0) == T && 2 * half == D, "the angles are not those of the positions");
  const float *c = cos.data(), *s = sin.data();
  float* at = x.mutable_data();
  py::gil_scoped_release release;
  for (int64_t row = 0; row < B * T; ++row)
    table().rope(at + row * heads * D, heads, D, D, c + row % T * half, s + row % T * half);
}

void swiglu(const Array& gate, const Array& up, Array& y) {
  expect_alike(gate, {&up, &y});
  const float *a = gate.data(), *b = up.data();
  float* to = y.mutable_data();
  const int64_t count = gate.size();
  py::gil_scoped_release release;
  table().activate(kernels::Activation::swiglu, a, b, count, to);
}

void swiglu_grad(const Array& gate, const Array& up, const Array& dy, Array& dgate, Array& dup) {
  expect_alike(gate, {&up, &dy, &dgate, &dup});
  const float *a = gate.data(), *b = up.data(), *grad = dy.data();
  float *to_gate = dgate.mutable_data(), *to_up = dup.mutable_data();
  const int64_t count = gate.size();
  py::gil_scoped_release release;
  table().swiglu_grad(a, b, grad, count, to_gate, to_up);
}

// Turns each row of logits (N, V) into softmax - one-hot, the gradient of the summed loss that it returns, in nats.
double cross_entropy_grad(Array& logits, const Indices& targets) {
  const Rows rows = rows_of(logits);
  expect(targets.size() == rows.count, "there is not one target per row");
  float* at = logits.mutable_data();
  const int64_t* wanted = targets.data();
  for (int64_t r = 0; r < rows.count; ++r) expect(wanted[r] >= 0 && wanted[r] < rows.width, "a target is out of range");
  py::gil_scoped_release release;
  std::vector<float> maxima(static_cast<size_t>(rows.width / kernels::kMaximaBlock + 1));
  double nats = 0;
  for (int64_t r = 0; r < rows.count; ++r, at += rows.width) {
    const float top = table().block_max(at, rows.width, maxima.data());
    const float log_sum = static_cast<float>(kernels::natural_log(table().sum_exp(at, rows.width, top, 1.0f)));
    nats += static_cast<double>(top - at[wanted[r]]) + log_sum;
    table().exp(at, rows.width, top + log_sum, 1.0f, at);
    at[wanted[r]] -= 1.0f;
  }
  return nats;
}

struct AdamRates {
  float lr, beta1, beta2, correction, eps;  // correction: of the square root of the mean square
};

void adam_row(const AdamRates& a, const std::vector<float>& grad, float* weights, float* mean, float* square) {
  for (size_t i = 0; i < grad.size(); ++i) {
    mean[i] += (1 - a.beta1) * (grad[i] - mean[i]);
    square[i] = a.beta2 * square[i] + (1 - a.beta2) * grad[i] * grad[i];
    weights[i] -= a.lr * mean[i] / (std::sqrt(square[i]) / a.correction + a.eps);
  }
}

// Adam on the rows of `weights` that `rows` names; gradients of a row named twice are added in their order.
void adam_rows(const Indices& rows, const Array& grads, Array& weights, Array& mean, Array& square, float lr,
               float beta1, float beta2, float correction, float eps) {
  const auto [count, width] = rows_of(grads);
  expect(rows.size() == count && rows_of(weights).width == width, "gradients do not fit the table");
  expect_alike(weights, {&mean, &square});
  const int64_t *row = rows.data(), limit = rows_of(weights).count;
  for (int64_t i = 0; i < count; ++i) expect(row[i] >= 0 && row[i] < limit, "a row is out of range");
  const float* from = grads.data();
  float *w = weights.mutable_data(), *m = mean.mutable_data(), *s = square.mutable_data();
  const AdamRates rates{lr, beta1, beta2, correction, eps};
  const py::gil_scoped_release release;
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [row](int64_t a, int64_t b) { return row[a] < row[b]; });
  std::vector<float> sum(static_cast<size_t>(width));
  for (auto next = order.begin(); next != order.end();) {
    const int64_t target = row[*next];
    std::fill(sum.begin(), sum.end(), 0.0f);
    for (; next != order.end() && row[*next] == target; ++next)
      for (int64_t i = 0; i < width; ++i) sum[static_cast<size_t>(i)] += from[*next * width + i];
    adam_row(rates, sum, w + target * width, m + target * width, s + target * width);
  }
}

}  // namespace

void bind_training(py::module_& module) {
  const auto in = [](const char* name) { return py::arg(name).noconvert(); };
  module.def("rms_norm", &rms_norm, in("x"), in("weight"), py::arg("eps"), in("y"), "Writes the normalised rows to y.");
  module.def("rms_norm_grad", &rms_norm_grad, in("x"), in("weight"), in("dy"), py::arg("eps"), in("dx"), in("dweight"),
             "Writes the gradient in x to dx and adds that in the weight to dweight.");
  module.def("rotate", &rotate, in("x"), in("cos"), in("sin"), "Turns the heads of x (B, T, heads, D) in place.");
  module.def("swiglu", &swiglu, in("gate"), in("up"), in("y"), "Writes silu(gate) * up to y.");
  module.def("swiglu_grad", &swiglu_grad, in("gate"), in("up"), in("dy"), in("dgate"), in("dup"),
             "Writes the gradients in gate and up.");
  module.def("adam_rows", &adam_rows, in("rows"), in("grads"), in("weights"), in("mean"), in("square"), py::kw_only(),
             py::arg("lr"), py::arg("beta1"), py::arg("beta2"), py::arg("correction"), py::arg("eps"),
             "Moves the rows of a table (R, C) named by `rows` (N) against their gradients (N, C).");
  module.def("cross_entropy_grad", &cross_entropy_grad, in("logits"), in("targets"),
             "Turns logits (N, V) into softmax - one-hot; returns the summed loss in nats.");
}

}  // namespace tinylm::bindings
