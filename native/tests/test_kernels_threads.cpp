// Several threads share one packed matrix: packing disjoint blocks, then one matmul by channel ranges. For
// ThreadSanitizer.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "../kernels/kernels.h"

using namespace tinylm::kernels;

namespace {

uint8_t* aligned_zeros(size_t bytes) {
  const size_t rounded = (bytes + 63) / 64 * 64;
  auto* p = static_cast<uint8_t*>(std::aligned_alloc(64, rounded));
  std::memset(p, 0, rounded);
  return p;
}

// One row per slice of channels, `threads` slices; returns whether the result equals a single thread's.
bool same_with_threads(const KernelTable& table, WeightType type, int64_t threads) {
  const int64_t n = 200, k = 96, m = 5, blocks = (n + kLanes - 1) / kLanes;
  std::vector<uint8_t> data(static_cast<size_t>(n * k * 4), 0x3c);
  for (size_t i = 0; i < data.size(); i += 3) data[i] = static_cast<uint8_t>(i % 60);
  const std::vector<float> scales(static_cast<size_t>(n * 3), 0.01f), x(static_cast<size_t>(k), 0.5f);
  uint8_t* packed = aligned_zeros(table.packed_bytes(type, n, k));
  const Matrix w = table.matrix_view(type, n, k, packed);
  const size_t row = table.row_bytes(type, k);
  uint8_t* rows = aligned_zeros(row * m);
  auto* one = reinterpret_cast<float*>(aligned_zeros(static_cast<size_t>(n * m) * 4));
  auto* many = reinterpret_cast<float*>(aligned_zeros(static_cast<size_t>(n * m) * 4));
  for (int64_t r = 0; r < m; ++r) table.prepare_row(type, x.data(), k, rows + row * static_cast<size_t>(r));
  const int64_t element = type == WeightType::f32 ? 8 : type == WeightType::bf16 ? 4 : type == WeightType::q8 ? 2 : 1;
  const auto each_slice = [&](auto&& run) {
    std::vector<std::thread> team;
    for (int64_t t = 0; t < threads; ++t)
      team.emplace_back([=] {
        const int64_t begin = blocks * t / threads * kLanes, end = blocks * (t + 1) / threads * kLanes;
        if (begin < end) run(begin, end < n ? end : n);
      });
    for (auto& member : team) member.join();
  };
  each_slice([&](int64_t begin, int64_t end) {
    const int64_t per_row = type == WeightType::q4 ? 3 : type == WeightType::q8 ? 1 : 0;
    table.pack_rows(w, begin,
                    {end - begin, k, data.data() + begin * k * element / 2, scales.data() + begin * per_row, nullptr});
  });
  each_slice([&](int64_t begin, int64_t end) { table.matmul(w, rows, m, begin, end, many, n, false); });
  table.matmul(w, rows, m, 0, n, one, n, false);
  const bool same = std::memcmp(one, many, static_cast<size_t>(n * m) * 4) == 0;
  for (void* p :
       {static_cast<void*>(packed), static_cast<void*>(rows), static_cast<void*>(one), static_cast<void*>(many)})
    std::free(p);
  return same;
}

}  // namespace

int main() {
  const KernelTable* tables[8];
  const size_t count = available_kernels(tables, 8);
  int failures = 0;
  for (size_t i = 0; i < count; ++i)
    for (const WeightType type : {WeightType::f32, WeightType::bf16, WeightType::q8, WeightType::q4})
      for (const int64_t threads : {2, 3, 8})
        if (!same_with_threads(*tables[i], type, threads)) {
          ++failures;
          std::printf("FAIL %s: weights of type %d differ with %d threads\n", tables[i]->name, static_cast<int>(type),
                      static_cast<int>(threads));
        }
  std::printf("%d failures\n", failures);
  return failures ? 1 : 0;
}
