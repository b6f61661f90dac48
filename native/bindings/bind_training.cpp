// The engine's kernels over whole arrays, for training: each replaces five to ten passes of a tensor library by one.
#include <pybind11/numpy.h>

#include <string>
#include <vector>

#include "bindings.h"
#include "kernels.h"

namespace py = pybind11;

namespace tinylm::bindings {

namespace {

using Array = py::array_t<float, py::array::c_style>;  // never converted: results are written in place
using Targets = py::array_t<int64_t, py::array::c_style>;

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
  for (const Array* other : others) expect(other->size() == x.size() && rows_of(*other).width == rows_of(x).width, "shapes differ");
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
double cross_entropy_grad(Array& logits, const Targets& targets) {
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
  module.def("cross_entropy_grad", &cross_entropy_grad, in("logits"), in("targets"),
             "Turns logits (N, V) into softmax - one-hot; returns the summed loss in nats.");
}

}  // namespace tinylm::bindings
