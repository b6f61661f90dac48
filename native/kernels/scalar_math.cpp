// Double-precision logarithm, exponential, sine and cosine from + - * / alone, so that tables have the same bits with
// every C library. Errors stay within a few ulp of double, far below the float the results are rounded to.
#include "kernels.h"

namespace tinylm::kernels {
namespace {

constexpr double kLn2 = 0.69314718055994530942;
constexpr double kPi = 3.14159265358979323846;

double nearest(double x) { return static_cast<double>(static_cast<int64_t>(x < 0 ? x - 0.5 : x + 0.5)); }

double power_of_two(int64_t n) { return __builtin_bit_cast(double, static_cast<uint64_t>(n + 1023) << 52); }

// Sum of x^i / i! for i = first, first + step, ... with signs alternating where `alternate`; 12 terms.
double taylor(double x, int first, int step, bool alternate) {
  double term = 1.0, sum = 0.0;
  for (int i = 1; i <= first; ++i) term *= x / i;
  for (int count = 0, i = first; count < 12; ++count) {
    sum += term;
    for (int j = 0; j < step; ++j) term *= x / ++i;
    if (alternate) term = -term;
  }
  return sum;
}

double exponential(double x) {
  const double n = nearest(x / kLn2);
  const double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;  // ln 2 in two parts
  const double root = taylor(r / 2, 0, 1, false);
  return root * root * power_of_two(static_cast<int64_t>(n));
}

// For |x| up to about 1e6: x - n pi/2 with pi/2 in two parts whose products with n are exact enough.
void sine_cosine(double x, double* sine, double* cosine) {
  const double n = nearest(x / (kPi / 2));
  const double r = ((x - n * 1.57079632673412561417) - n * 6.07710050630396597660e-11) - n * 2.02226624879595063154e-21;
  const double s = taylor(r, 1, 2, true), c = taylor(r, 0, 2, true);
  switch (static_cast<int64_t>(n) & 3) {
    case 0: *sine = s, *cosine = c; break;
    case 1: *sine = c, *cosine = -s; break;
    case 2: *sine = -s, *cosine = -c; break;
    default: *sine = -c, *cosine = s; break;
  }
}

}  // namespace

double natural_log(double x) {
  if (!(x > 0)) return x == 0 ? -__builtin_inf() : __builtin_nan("");
  const uint64_t bits = __builtin_bit_cast(uint64_t, x);
  int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  double m = __builtin_bit_cast(double, (bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL);
  if (m > 1.41421356237309504880) m /= 2, ++exponent;
  // log m = 2 atanh(z), z = (m - 1) / (m + 1), |z| <= 0.1716.
  const double z = (m - 1) / (m + 1), square = z * z;
  double sum = 0;
  for (int i = 23; i >= 3; i -= 2) sum = (sum + 1.0 / i) * square;
  return static_cast<double>(exponent) * kLn2 + (2 * z + 2 * z * sum);
}

void rope_table(int64_t position, int64_t rotary_dim, double theta, float* cos, float* sin) {
  const double log_theta = natural_log(theta);
  for (int64_t i = 0; i < rotary_dim / 2; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim);
    const double angle = static_cast<double>(position) * exponential(-exponent * log_theta);
    double s, c;
    sine_cosine(angle, &s, &c);
    cos[i] = static_cast<float>(c);
    sin[i] = static_cast<float>(s);
  }
}

}  // namespace tinylm::kernels
