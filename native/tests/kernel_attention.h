// Attention over the cache and the kernels of sampling, against loops in double.
#pragma once

#include "kernel_support.h"

namespace tinylm::testing {

struct Cache {
  Cache(const KernelTable& table, KvType type, int64_t positions, int64_t head_dim)
      : k(table.kv_bytes(type, positions, head_dim, false)),
        v(table.kv_bytes(type, positions, head_dim, true)),
        view{type, head_dim, k.data(), v.data()} {}
  Bytes k, v;
  KvView view;
};

inline void check_attention(const KernelTable& table, const KernelTable& scalar, KvType type, int64_t head_dim,
                            int64_t group, int64_t length, int64_t queries, int64_t window) {
  Cache mine(table, type, length, head_dim), copy(table, type, length, head_dim),
      reference(scalar, type, length, head_dim);
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
  Bytes scratch(4 * std::max(table.attention_scratch_floats(length, head_dim),
                             scalar.attention_scratch_floats(length, head_dim)));
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  AttentionCall call{copy.view,
                     group,
                     queries,
                     length - queries,
                     window,
                     scale,
                     q.data(),
                     width,
                     found.data(),
                     width,
                     reinterpret_cast<float*>(scratch.data()),
                     {},
                     {}};
  table.attention(call);
  Floats fetching(queries * width, 1);
  call.out = fetching.data();
  call.next = call.later = {mine.view.k, mine.view.v};
  table.attention(call);
  call.next = call.later = {};
  call.kv = reference.view;
  call.out = other.data();
  scalar.attention(call);
  const std::string where = text("attention kv=%d D=%d group=%d T=%d queries=%d window=%d", static_cast<int>(type),
                                 static_cast<int>(head_dim), static_cast<int>(group), static_cast<int>(length),
                                 static_cast<int>(queries), static_cast<int>(window));
  if (!found.guard_intact()) fail(table, where + " writes past the end");
  if (!same_bits(found.data(), other.data(), queries * width)) fail(table, where + " differs from scalar");
  if (!same_bits(found.data(), fetching.data(), queries * width)) fail(table, where + " depends on the next call");
  const double limit = type == KvType::f32 ? 1e-5 : 4e-2;
  for (int64_t i = 0; i < queries; ++i)
    for (int64_t g = 0; g < group; ++g) {
      const int64_t end = length - queries + i + 1, begin = window ? std::max<int64_t>(0, end - window) : 0;
      const float* qh = q.data() + i * width + g * head_dim;
      std::vector<double> weights;
      double sum = 0;
      for (int64_t t = begin; t < end; ++t) {
        double score = 0;
        for (int64_t d = 0; d < head_dim; ++d)
          score += static_cast<double>(qh[d]) * keys[static_cast<size_t>(t * head_dim + d)];
        weights.push_back(std::exp(score * scale));
        sum += weights.back();
      }
      for (int64_t d = 0; d < head_dim; ++d) {
        double want = 0;
        for (int64_t t = begin; t < end; ++t)
          want += weights[static_cast<size_t>(t - begin)] / sum * values[static_cast<size_t>(t * head_dim + d)];
        if (!(std::fabs(found[i * width + g * head_dim + d] - want) <= limit)) {
          fail(table, where + " is wrong");
          return;
        }
      }
    }
}

inline void test_attention(const KernelTable& table, const KernelTable& scalar) {
  for (const KvType type : {KvType::f32, KvType::bf16, KvType::q8}) {
    for (int64_t length = 1; length <= 2 * kPositionBlock + 1; ++length)
      check_attention(table, scalar, type, 32, 1, length, 1, 0);
    for (const int64_t head_dim : {1, 8, 16, 24, 48, 64, 80, 96, 128})
      for (const int64_t length : {1, 15, 16, 50, 100, 257})
        check_attention(table, scalar, type, head_dim, 1, length, std::min<int64_t>(length, 3), 0);
    for (const int64_t group : {2, 3, 4, 8}) check_attention(table, scalar, type, 64, group, 77, 5, 0);
    for (const int64_t queries : {1, 2, 7, 16, 33, 70}) check_attention(table, scalar, type, 32, 2, 70, queries, 0);
    for (const int64_t window : {1, 5, 16, 17, 40})
      for (const int64_t queries : {1, 3, 20}) check_attention(table, scalar, type, 32, 1, 90, queries, window);
  }
}

// One query's result does not depend on the chunk it was computed in.
inline void test_attention_chunks(const KernelTable& table, KvType type) {
  const int64_t length = 75, head_dim = 32, group = 2, width = group * head_dim;
  Cache cache(table, type, length, head_dim);
  Floats k(head_dim, 0), v(head_dim, 0), q(length * width, 0), whole(length * width, 0), parts(length * width, 0);
  for (int64_t t = 0; t < length; ++t) {
    for (int64_t d = 0; d < head_dim; ++d) k[d] = normal(), v[d] = normal();
    table.kv_store(cache.view, t, k.data(), v.data());
  }
  for (int64_t i = 0; i < length * width; ++i) q[i] = normal();
  Bytes scratch(4 * table.attention_scratch_floats(length, head_dim));
  AttentionCall call{cache.view,
                     group,
                     length,
                     0,
                     0,
                     0.2f,
                     q.data(),
                     width,
                     whole.data(),
                     width,
                     reinterpret_cast<float*>(scratch.data()),
                     {},
                     {}};
  table.attention(call);
  for (int64_t i = 0; i < length;) {
    const int64_t step = std::min<int64_t>(length - i, 1 + i % 5);
    call.first_position = i, call.queries = step, call.q = q.data() + i * width, call.out = parts.data() + i * width;
    table.attention(call);
    i += step;
  }
  if (!same_bits(whole.data(), parts.data(), length * width)) fail(table, "attention depends on the chunk");
}

// Equal scores of many positions: the largest sum of integer weights, and values as large as they get.
inline void test_equal_scores(const KernelTable& table, const KernelTable& scalar) {
  const int64_t length = 1000, head_dim = 32;
  Cache mine(table, KvType::q8, length, head_dim), reference(scalar, KvType::q8, length, head_dim);
  Floats k(head_dim, 0, 1.0f), v(head_dim, 0), q(head_dim, 0), found(head_dim, 1), other(head_dim, 1);
  for (int64_t d = 0; d < head_dim; ++d) v[d] = d % 2 ? 1.0f : -1.0f;
  for (int64_t t = 0; t < length; ++t) {
    table.kv_store(mine.view, t, k.data(), v.data());
    scalar.kv_store(reference.view, t, k.data(), v.data());
  }
  Bytes scratch(4 * std::max(table.attention_scratch_floats(length, head_dim),
                             scalar.attention_scratch_floats(length, head_dim)));
  AttentionCall call{
      mine.view, 1, 1, length - 1, 0, 0.2f, q.data(), 0, found.data(), 0, reinterpret_cast<float*>(scratch.data())};
  table.attention(call);
  call.kv = reference.view, call.out = other.data();
  scalar.attention(call);
  bool right = same_bits(found.data(), other.data(), head_dim);
  for (int64_t d = 0; d < head_dim; ++d) right = right && std::fabs(found[d] - v[d]) < 1e-4f;
  if (!right) fail(table, "attention of a thousand equal scores");
}

// Values of very unlike size: the largest decides what an integer weight stands for, and those that the query does not
// see decide nothing.
inline void test_value_scales(const KernelTable& table) {
  const int64_t length = 40, head_dim = 16, seen_end = 35;
  for (const int64_t window : {0, 20}) {
    const int64_t begin = window ? seen_end - window : 0;
    Cache cache(table, KvType::q8, length, head_dim);
    Floats k(head_dim, 0), v(head_dim, 0), q(head_dim, 0, 1.0f), found(head_dim, 1), again(head_dim, 1);
    Bytes scratch(4 * table.attention_scratch_floats(length, head_dim));
    AttentionCall call{cache.view,
                       1,
                       1,
                       seen_end - 1,
                       window,
                       0.25f,
                       q.data(),
                       0,
                       found.data(),
                       0,
                       reinterpret_cast<float*>(scratch.data())};
    double total = 0, want = 0;
    for (int64_t t = 0; t < length; ++t) {
      // The likeliest position has next to no value, as the first of a text often has.
      const float score = t == begin + 3 ? 2.0f : 0.0f, value = t == begin + 3 ? 1e-4f : t % 2 ? 1.0f : 0.25f;
      for (int64_t d = 0; d < head_dim; ++d) k[d] = score, v[d] = value;
      table.kv_store(cache.view, t, k.data(), v.data());
      if (t < begin || t >= seen_end) continue;
      total += std::exp(0.25 * static_cast<double>(head_dim) * score);
      want += std::exp(0.25 * static_cast<double>(head_dim) * score) * value;
    }
    table.attention(call);
    if (!(std::fabs(found[0] - want / total) <= 1e-3 * want / total))
      fail(table, text("attention of unlike values, window=%d", static_cast<int>(window)));
    for (int64_t t = 0; t < length; ++t) {
      if (t >= begin && t < seen_end) continue;
      for (int64_t d = 0; d < head_dim; ++d) k[d] = 0.0f, v[d] = 1e30f;
      table.kv_store(cache.view, t, k.data(), v.data());
    }
    call.out = again.data();
    table.attention(call);
    if (!same_bits(found.data(), again.data(), head_dim))
      fail(table, text("attention depends on values not seen, window=%d", static_cast<int>(window)));
  }
}

// All heads in one call, whose last positions it stores itself: the same bits as head by head, stored before.
inline void check_heads(const KernelTable& table, KvType type, int64_t head_dim, int64_t group, int64_t queries) {
  const int64_t heads = 3, length = 40, width = heads * head_dim, wide = group * width;
  const size_t k_bytes = table.kv_bytes(type, length, head_dim, false),
               step = k_bytes + table.kv_bytes(type, length, head_dim, true);
  Bytes together(heads * step), apart(heads * step), copied(heads * step);
  const auto view = [&](Bytes& cache, int64_t head, int64_t count) {
    uint8_t* at = cache.data() + static_cast<size_t>(head) * step;
    return KvView{type, head_dim, at, at + k_bytes, count, static_cast<int64_t>(step)};
  };
  Floats k(length * wide, 0), v(length * wide, 0), q(queries * wide, 0), one(queries * wide, 1),
      by_head(queries * wide, 1);
  for (int64_t i = 0; i < length * wide; ++i) k[i] = normal(), v[i] = normal();
  for (int64_t i = 0; i < queries * wide; ++i) q[i] = normal();
  for (int64_t t = 0; t < length; ++t) {
    if (t < length - queries) table.kv_store(view(together, 0, heads), t, k.data() + t * wide, v.data() + t * wide);
    for (int64_t h = 0; h < heads; ++h)
      table.kv_store(view(apart, h, 1), t, k.data() + t * wide + h * head_dim, v.data() + t * wide + h * head_dim);
  }
  Bytes scratch(4 * table.attention_scratch_floats(length, head_dim));
  AttentionCall call{view(together, 0, heads),
                     group,
                     queries,
                     length - queries,
                     0,
                     0.2f,
                     q.data(),
                     wide,
                     one.data(),
                     wide,
                     reinterpret_cast<float*>(scratch.data()),
                     {apart.data(), apart.data()},
                     {copied.data(), copied.data()},
                     k.data() + (length - queries) * wide,
                     v.data() + (length - queries) * wide};
  table.attention(call);
  call.new_k = call.new_v = nullptr;
  for (int64_t h = 0; h < heads; ++h) {
    call.kv = view(apart, h, 1), call.q = q.data() + h * group * head_dim,
    call.out = by_head.data() + h * group * head_dim;
    table.attention(call);
  }
  table.kv_copy(view(together, 0, heads), view(copied, 0, heads), length);
  const std::string where = text("attention of three heads, kv=%d D=%d group=%d queries=%d", static_cast<int>(type),
                                 static_cast<int>(head_dim), static_cast<int>(group), static_cast<int>(queries));
  if (!same_bits(one.data(), by_head.data(), queries * wide)) fail(table, where + " differs from one by one");
  if (!one.guard_intact() || !by_head.guard_intact()) fail(table, where + " writes past the end");
  if (std::memcmp(together.data(), apart.data(), heads * step) != 0) fail(table, where + " stores something else");
  if (std::memcmp(together.data(), copied.data(), heads * step) != 0) fail(table, where + " are not copied whole");
}

inline void test_heads(const KernelTable& table) {
  for (const KvType type : {KvType::f32, KvType::bf16, KvType::q8})
    for (const int64_t head_dim : {20, 32, 64})
      for (const int64_t group : {1, 2, 4})
        for (const int64_t queries : {1, 2, 7}) check_heads(table, type, head_dim, group, queries);
}

// --- Sampling ------------------------------------------------------------------------------------------------------

inline void test_sampling(const KernelTable& table, const KernelTable& scalar) {
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
    if (found != scalar.sum_exp(x.data(), n, top, 0.7f))
      fail(table, text("sum_exp n=%d differs from scalar", static_cast<int>(n)));
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

// Logits in pieces of 16 blocks: rising, so that all are likely, falling, and by chance.
inline void test_keep_likely(const KernelTable& table) {
  constexpr int64_t piece = 16 * kMaximaBlock, capacity = 8192;
  alignas(kAlign) static float kept[capacity];
  for (const int64_t n : {1, 63, 1024, 1025, 4000, 8191})
    for (const int64_t levels : {1, 2, 4})
      for (const float slope : {0.0f, 1.0f, -1.0f}) {
        std::vector<float> x(static_cast<size_t>(n)), maxima(x.size() / kMaximaBlock + 1), tops(64, -INFINITY);
        for (int64_t i = 0; i < n; ++i) x[static_cast<size_t>(i)] = slope * static_cast<float>(i) + normal(3.0f);
        std::fill_n(kept, capacity, NAN);
        float bound = -INFINITY;
        for (int64_t at = 0; at < n; at += piece) {
          const int64_t count = std::min(piece, n - at);
          float* here = maxima.data() + at / kMaximaBlock;
          table.block_max(x.data() + at, count, here);
          bound = table.keep_likely(x.data() + at, count, here, levels, tops.data(), kept + at);
        }
        int64_t reach = 0;
        for (int64_t i = 0; i < n; ++i) {
          const bool likely = maxima[static_cast<size_t>(i / kMaximaBlock)] >= bound;
          reach += x[static_cast<size_t>(i)] >= bound;
          if (likely && kept[i] != x[static_cast<size_t>(i)])
            fail(table, text("keep_likely n=%d lost one", static_cast<int>(n)));
        }
        if (bound > -INFINITY && reach < 16 * levels)
          fail(table, text("keep_likely n=%d: bound too high", static_cast<int>(n)));
        if (n >= 8191 && levels < 4 && !(bound > -INFINITY))
          fail(table, text("keep_likely n=%d: no bound", static_cast<int>(n)));
        if (n < capacity && !std::isnan(kept[n]))
          fail(table, text("keep_likely n=%d writes past the end", static_cast<int>(n)));
      }
}

inline void test_tables_of_double() {
  for (double x = 1e-300; x < 1e300; x *= 1.7)
    if (std::fabs(natural_log(x) / std::log(x) - 1) > 5e-16 && std::fabs(x - 1) > 0.1) {
      ++failures;
      std::printf("FAIL natural_log(%g)\n", x);
    }
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

}  // namespace tinylm::testing
