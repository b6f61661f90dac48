// Every table of this machine against a double-precision loop and, bit for bit, against the scalar table.
//
// usage: test_kernels [--require NAME]...   exit 1 on a failure, or where a required table is missing.
#include "kernel_attention.h"
#include "kernel_elementwise.h"
#include "kernel_matmul.h"

namespace tinylm::testing {

// --- One number for all --------------------------------------------------------------------------------------------

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

constexpr uint64_t kGoldenDigest = 0xeff201935d008107;

uint64_t digest(const KernelTable& table) {
  uint32_t state = 1;
  const auto next = [&] {
    return static_cast<float>(static_cast<int32_t>((state = state * 1664525u + 1013904223u) >> 8) - (1 << 23)) /
           (1 << 21);
  };
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
    table.attention({cache.view,
                     2,
                     1,
                     length - 1,
                     0,
                     0.15f,
                     x.data(),
                     0,
                     out.data(),
                     0,
                     reinterpret_cast<float*>(scratch.data()),
                     {},
                     {}});
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

}  // namespace tinylm::testing

int main(int argc, char** argv) {
  using namespace tinylm::testing;
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
    for (const KvType type : {KvType::f32, KvType::bf16, KvType::q8}) test_attention_chunks(table, type);
    test_equal_scores(table, scalar);
    test_value_scales(table);
    test_heads(table);
    test_sampling(table, scalar);
    test_keep_likely(table);
    test_digest(table);
    std::printf("tested %s\n", table.name);
  }
  std::printf("%d failures\n", failures);
  return failures ? 1 : 0;
}
