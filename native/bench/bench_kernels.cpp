// Speed of each kernel at the presets' shapes, interleaved, best of many short runs.
//
// usage: bench_kernels [table [filter]]      prints one line per case: GMAC/s or GB/s or ns
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "../kernels/kernels.h"

using namespace tinylm::kernels;

namespace {

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

uint8_t* buffer(size_t bytes) {
  const size_t rounded = (bytes + 4095) / 4096 * 4096 + 4096;
  auto* p = static_cast<uint8_t*>(std::aligned_alloc(size_t{1} << 21, rounded));
  if (rounded > size_t{1} << 20) madvise(p, rounded, MADV_HUGEPAGE);
  std::memset(p, 0, rounded);
  return p;
}

float uniform() { return static_cast<float>(std::rand()) / static_cast<float>(RAND_MAX) - 0.5f; }

struct Case {
  std::string name;
  double work;       // MACs, bytes or items of one run
  const char* unit;  // of work / s / 1e9, or "ns" per item
  std::function<void()> run;
  double best_s = 1e9;
};

// About normally distributed, as a model's activations are.
float normal() {
  float sum = 0;
  for (int i = 0; i < 12; ++i) sum += uniform();
  return sum;
}

std::vector<Case> cases;
const char* filter = "";

bool wanted(const std::string& name) { return name.find(filter) != std::string::npos; }

const char* type_name(WeightType type) {
  switch (type) {
    case WeightType::f32: return "f32";
    case WeightType::bf16: return "bf16";
    case WeightType::q8: return "q8";
    default: return "q4";
  }
}

void add_matmul(const KernelTable& t, WeightType type, int64_t n, int64_t k, int64_t m) {
  char name[128];
  std::snprintf(name, sizeof name, "matmul %s N=%d K=%d M=%d", type_name(type), static_cast<int>(n),
                static_cast<int>(k), static_cast<int>(m));
  if (!wanted(name)) return;
  std::vector<uint8_t> data(static_cast<size_t>(n * k * 4));
  std::vector<float> scales(static_cast<size_t>(n * (k / 32 + 1)), 0.01f);
  if (type == WeightType::f32)
    for (int64_t i = 0; i < n * k; ++i) reinterpret_cast<float*>(data.data())[i] = uniform();
  else
    for (auto& b : data) b = static_cast<uint8_t>(std::rand() % 250 - 125);
  if (type == WeightType::bf16)
    for (size_t i = 1; i < data.size(); i += 2) data[i] = 0x3c;
  uint8_t* packed = buffer(t.packed_bytes(type, n, k));
  const Matrix w = t.matrix_view(type, n, k, packed);
  t.pack_rows(w, 0, {n, k, data.data(), scales.data(), nullptr});
  const size_t row = t.row_bytes(type, k);
  uint8_t* rows = buffer(row * static_cast<size_t>(m));
  std::vector<float> x(static_cast<size_t>(k));
  for (int64_t r = 0; r < m; ++r) {
    for (auto& v : x) v = normal();
    t.prepare_row(type, x.data(), k, rows + static_cast<size_t>(r) * row);
  }
  auto* y = reinterpret_cast<float*>(buffer(static_cast<size_t>(m * n) * 4));
  const KernelTable* table = &t;
  cases.push_back(
      {name, static_cast<double>(n * k * m), "GMAC/s", [=] { table->matmul(w, rows, m, 0, n, y, n, false); }});
}

void add_attention(const KernelTable& t, KvType type, int64_t head_dim, int64_t length, int64_t queries,
                   int64_t heads) {
  char name[128];
  std::snprintf(name, sizeof name, "attention %s D=%d T=%d queries=%d heads=%d",
                type == KvType::f32  ? "f32"
                : type == KvType::q8 ? "q8"
                                     : "bf16",
                static_cast<int>(head_dim), static_cast<int>(length), static_cast<int>(queries),
                static_cast<int>(heads));
  if (!wanted(name)) return;
  auto views = std::vector<KvView>();
  std::vector<float> k(static_cast<size_t>(head_dim));
  for (int64_t h = 0; h < heads; ++h) {
    KvView kv{type, head_dim, buffer(t.kv_bytes(type, length, head_dim, false)),
              buffer(t.kv_bytes(type, length, head_dim, true))};
    for (int64_t p = 0; p < length; ++p) {
      for (auto& v : k) v = uniform();
      t.kv_store(kv, p, k.data(), k.data());
    }
    views.push_back(kv);
  }
  auto* q = reinterpret_cast<float*>(buffer(static_cast<size_t>(queries * heads * head_dim) * 4));
  for (int64_t i = 0; i < queries * heads * head_dim; ++i) q[i] = uniform();
  auto* out = reinterpret_cast<float*>(buffer(static_cast<size_t>(queries * heads * head_dim) * 4));
  auto* scratch = reinterpret_cast<float*>(buffer(t.attention_scratch_floats(length, head_dim) * 4));
  const KernelTable* table = &t;
  double macs = 0;
  for (int64_t i = 0; i < queries; ++i) macs += static_cast<double>(2 * head_dim * heads * (length - queries + i + 1));
  cases.push_back({name, macs, "GMAC/s", [=] {
                     for (int64_t h = 0; h < heads; ++h)
                       table->attention({views[static_cast<size_t>(h)],
                                         1,
                                         queries,
                                         length - queries,
                                         0,
                                         0.2f,
                                         q + h * head_dim,
                                         heads * head_dim,
                                         out + h * head_dim,
                                         heads * head_dim,
                                         scratch,
                                         {},
                                         {}});
                   }});
}

// One decode step of many slots, as an engine walks them: layer by layer, slot by slot, one call for all (at least two)
// heads; out of cache.
void add_decode(const KernelTable& t, KvType type, int64_t head_dim, int64_t heads, int64_t layers, int64_t slots,
                int64_t context, int64_t length) {
  char name[128];
  std::snprintf(name, sizeof name, "decode %s D=%d heads=%d layers=%d slots=%d T=%d",
                type == KvType::f32  ? "f32"
                : type == KvType::q8 ? "q8"
                                     : "bf16",
                static_cast<int>(head_dim), static_cast<int>(heads), static_cast<int>(layers), static_cast<int>(slots),
                static_cast<int>(length));
  if (!wanted(name)) return;
  const size_t k_bytes = t.kv_bytes(type, context, head_dim, false),
               v_bytes = t.kv_bytes(type, context, head_dim, true);
  uint8_t* memory = buffer((k_bytes + v_bytes) * static_cast<size_t>(slots * layers * heads));
  const auto view = [=](int64_t slot, int64_t layer) {
    const size_t step = k_bytes + v_bytes;
    uint8_t* at = memory + step * static_cast<size_t>((slot * layers + layer) * heads);
    return KvView{type, head_dim, at, at + k_bytes, heads, static_cast<int64_t>(step)};
  };
  std::vector<float> k(static_cast<size_t>(heads * head_dim));
  for (auto& v : k) v = uniform();
  for (int64_t slot = 0; slot < slots; ++slot)
    for (int64_t layer = 0; layer < layers; ++layer)
      for (int64_t p = 0; p < length; ++p) t.kv_store(view(slot, layer), p, k.data(), k.data());
  auto* q = reinterpret_cast<float*>(buffer(static_cast<size_t>(heads * head_dim) * 4));
  for (int64_t i = 0; i < heads * head_dim; ++i) q[i] = uniform();
  auto* out = reinterpret_cast<float*>(buffer(static_cast<size_t>(heads * head_dim) * 4));
  auto* scratch = reinterpret_cast<float*>(buffer(t.attention_scratch_floats(length, head_dim) * 4));
  const KernelTable* table = &t;
  cases.push_back({name, static_cast<double>(slots), "ns", [=] {
                     for (int64_t layer = 0; layer < layers; ++layer)
                       for (int64_t slot = 0; slot < slots; ++slot) {
                         const auto upcoming = [&](int64_t head) {
                           if (slot + 1 == slots) return Upcoming{};
                           const KvView kv = view(slot + 1, layer);
                           return Upcoming{static_cast<uint8_t*>(kv.k) + head * kv.step,
                                           static_cast<uint8_t*>(kv.v) + head * kv.step};
                         };
                         table->attention({view(slot, layer), 1, 1, length - 1, 0, 0.2f, q, 0, out, 0, scratch,
                                           upcoming(0), upcoming(1), k.data(), k.data()});
                       }
                   }});
}

void add_elementwise(const KernelTable& t, int64_t n) {
  auto* x = reinterpret_cast<float*>(buffer(static_cast<size_t>(n) * 4 * 4));
  for (int64_t i = 0; i < 3 * n; ++i) x[i] = uniform();
  float* y = x + 3 * n;
  uint8_t* row = buffer(t.row_bytes(WeightType::q8, n));
  uint8_t* row4 = buffer(t.row_bytes(WeightType::q4, n));
  const KernelTable* table = &t;
  const auto add = [&](const char* what, std::function<void()> f) {
    cases.push_back({std::string(what) + " n=" + std::to_string(n), 1, "ns", std::move(f)});
  };
  add("rmsnorm", [=] { table->rmsnorm(x, x + n, n, 1e-5f, y); });
  add("layernorm", [=] { table->layernorm(x, x + n, x + 2 * n, n, 1e-5f, y); });
  add("prepare q8", [=] { table->prepare_row(WeightType::q8, x, n, row); });
  add("prepare q4", [=] { table->prepare_row(WeightType::q4, x, n, row4); });
  add("swiglu", [=] { table->activate(Activation::swiglu, x, x + n, n, y); });
  add("gelu", [=] { table->activate(Activation::gelu, x, nullptr, n, y); });
  add("gelu_tanh", [=] { table->activate(Activation::gelu_tanh, x, nullptr, n, y); });
  add("add", [=] { table->add(x, x + n, n, y); });
  add("rope 32s", [=] { table->rope(x, n / 32, 32, 32, x + n, x + 2 * n); });
}

void add_store(const KernelTable& t, KvType type, int64_t head_dim) {
  constexpr int64_t kPositions = 256;
  const KvView kv{type, head_dim, buffer(t.kv_bytes(type, kPositions, head_dim, false)),
                  buffer(t.kv_bytes(type, kPositions, head_dim, true))};
  auto* x = reinterpret_cast<float*>(buffer(static_cast<size_t>(2 * head_dim) * 4));
  for (int64_t i = 0; i < 2 * head_dim; ++i) x[i] = uniform();
  const KernelTable* table = &t;
  cases.push_back({std::string(type == KvType::q8 ? "kv_store q8" : "kv_store bf16") + " D=" + std::to_string(head_dim),
                   kPositions, "ns", [=] {
                     for (int64_t p = 0; p < kPositions; ++p) table->kv_store(kv, p, x, x + head_dim);
                   }});
}

void add_unpack(const KernelTable& t, WeightType type, int64_t k) {
  constexpr int64_t kRows = 64;
  uint8_t* packed = buffer(t.packed_bytes(type, kRows, k));
  const Matrix w = t.matrix_view(type, kRows, k, packed);
  auto* out = reinterpret_cast<float*>(buffer(static_cast<size_t>(k) * 4));
  const KernelTable* table = &t;
  cases.push_back({std::string("unpack_row ") + type_name(type) + " n=" + std::to_string(k), kRows, "ns", [=] {
                     for (int64_t row = 0; row < kRows; ++row) table->unpack_row(w, row, out);
                   }});
}

void add_sampling(const KernelTable& t, int64_t n) {
  auto* x = reinterpret_cast<float*>(buffer(static_cast<size_t>(n) * 4));
  for (int64_t i = 0; i < n; ++i) x[i] = 8 * uniform();
  auto* maxima = reinterpret_cast<float*>(buffer(static_cast<size_t>(n) / 16 + 64));
  auto* indices = reinterpret_cast<int32_t*>(buffer(static_cast<size_t>(n) * 4));
  const KernelTable* table = &t;
  const auto add = [&](const char* what, std::function<void()> f) {
    cases.push_back({std::string(what) + " V=" + std::to_string(n), 1, "ns", std::move(f)});
  };
  add("block_max", [=] { table->block_max(x, n, maxima); });
  add("sum_exp", [=] { table->sum_exp(x, n, 4.0f, 1.25f); });
  add("select top ~60",
      [=] { table->select_at_least(x, n, maxima, 4.0f - 480.0f / static_cast<float>(n), indices, n); });
}

void add_all(const KernelTable& t) {
  struct Shape {
    int64_t n, k;
  };
  const Shape llama20[] = {{1152, 384}, {384, 384}, {2048, 384}, {384, 1024}, {16000, 384}};
  const Shape llama8[] = {{576, 192}, {192, 192}, {1024, 192}, {192, 512}, {4096, 192}};
  const Shape slm51[] = {{1536, 512}, {2048, 512}, {512, 2048}, {50257, 512}};
  for (const int64_t m : {1, 4, 8, 16, 32, 64, 128}) {
    for (const Shape s : llama20) add_matmul(t, WeightType::q8, s.n, s.k, m);
    for (const Shape s : llama8) add_matmul(t, WeightType::q8, s.n, s.k, m);
    for (const Shape s : slm51) add_matmul(t, WeightType::q8, s.n, s.k, m);
  }
  for (const WeightType type : {WeightType::f32, WeightType::bf16, WeightType::q4})
    for (const int64_t m : {1, 4, 16, 64})
      for (const Shape s : {Shape{1152, 384}, Shape{384, 1024}, Shape{16000, 384}}) add_matmul(t, type, s.n, s.k, m);
  for (const KvType type : {KvType::q8, KvType::bf16, KvType::f32})
    for (const int64_t head_dim : {32, 64}) {
      add_attention(t, type, head_dim, 32, 1, 6);
      add_attention(t, type, head_dim, 110, 1, 6);
      add_attention(t, type, head_dim, 220, 1, 6);
      add_attention(t, type, head_dim, 200, 200, 6);
    }
  for (const KvType type : {KvType::q8, KvType::bf16})
    for (const int64_t slots : {1, 8, 32, 96}) {
      add_decode(t, type, 32, 6, 16, slots, 256, 110);
      add_decode(t, type, 64, 6, 8, slots, 512, 110);
    }
  for (const int64_t n : {192, 384, 1024}) add_elementwise(t, n);
  for (const KvType type : {KvType::q8, KvType::bf16})
    for (const int64_t head_dim : {32, 64}) add_store(t, type, head_dim);
  for (const WeightType type : {WeightType::f32, WeightType::bf16, WeightType::q8, WeightType::q4})
    add_unpack(t, type, 384);
  for (const int64_t n : {4096, 16000, 50257}) add_sampling(t, n);
}

}  // namespace

int main(int argc, char** argv) {
  const KernelTable* table = find_kernels(argc > 1 ? argv[1] : "auto");
  if (!table) return std::printf("no such kernels on this machine\n"), 1;
  if (argc > 2) filter = argv[2];
  add_all(*table);
  cases.erase(std::remove_if(cases.begin(), cases.end(), [](const Case& c) { return !wanted(c.name); }), cases.end());
  for (int round = 0; round < 12; ++round)
    for (Case& c : cases) {
      int repeats = 1;
      for (double spent = 0; spent < 2e-3; repeats *= 2) {
        const double begin = now_s();
        for (int i = 0; i < repeats; ++i) c.run();
        spent = now_s() - begin;
        c.best_s = std::min(c.best_s, spent / repeats);
      }
    }
  for (const Case& c : cases) {
    const bool time = std::strcmp(c.unit, "ns") == 0;
    std::printf("%-48s %9.1f %s\n", c.name.c_str(), time ? c.best_s * 1e9 / c.work : c.work / c.best_s / 1e9, c.unit);
  }
  return 0;
}
