// The engine without Python: built with sanitizers (make asan, tsan), it looks for races, leaks and bad accesses while
// texts, cancels and failures cross each other. What the texts should be, the Python tests know.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "engine.h"
#include "engine_parts.h"
#include "errors.h"
#include "tiny_model.h"

using namespace tinylm;
using engine::Engine;
using engine::Finish;
using engine::Request;
using engine::Result;
using engine::SamplingOptions;

namespace {

// --- Fails the n-th allocation (not under TSan, whose allocator must stay) -----------------------------------------
std::atomic<bool> counts_allocations{false};
std::atomic<int64_t> allocations_left{-1};         // -1: never fails
std::atomic<size_t> largest_allocation{SIZE_MAX};  // larger ones fail

constexpr int64_t kWaitNs = int64_t{20} * 1000000000;

std::vector<const kernels::KernelTable*> tables() {
  std::vector<const kernels::KernelTable*> found(16);
  found.resize(kernels::available_kernels(found.data(), found.size()));
  return found;
}

std::shared_ptr<const engine::Weights> load(const std::string& file, const kernels::KernelTable& table,
                                            int threads = 1) {
  return engine::load_weights(engine::MemorySource(file.data(), file.size()), table, threads);
}

std::shared_ptr<Request> request(std::vector<int32_t> tokens, int64_t count, uint64_t seed = 0, int64_t channel = 0) {
  auto r = std::make_shared<Request>();
  r->tokens = std::move(tokens);
  r->max_new_tokens = count;
  r->channel = channel;
  r->sampling = {seed ? 0.9f : 0.0f,
                 static_cast<int64_t>(seed % 3) * 8,
                 seed % 2 ? 0.9f : 1.0f,
                 0.0f,
                 seed % 5 ? 1.0f : 1.2f,
                 seed,
                 seed};
  return r;
}

std::vector<std::shared_ptr<Request>> some_requests() {
  std::mt19937 random(4);
  std::vector<std::shared_ptr<Request>> all;
  for (uint64_t i = 0; i < 24; ++i) {
    std::vector<int32_t> tokens{1};
    // Some are long enough to be divided between threads.
    for (size_t n = 0; n < 1 + i % 13 + (i % 5 ? 0 : 14); ++n)
      tokens.push_back(static_cast<int32_t>(i % 3 ? random() % 60 : 3 + n));
    all.push_back(request(tokens, 12, i));
  }
  return all;
}

std::map<int64_t, Result> collect(Engine& engine, size_t count, int64_t channel = 0) {
  std::map<int64_t, Result> done;
  while (done.size() < count) {
    std::vector<Result> results = engine.collect(channel, kWaitNs);
    CHECK(!results.empty());
    for (Result& result : results) {
      const int64_t ticket = result.ticket;
      CHECK(done.emplace(ticket, std::move(result)).second);
    }
  }
  return done;
}

void test_same_text_everywhere(const std::string& precision, bool gpt2) {
  const std::string file = testing::tiny_file({precision, 60, 40, 2, 4, gpt2 ? 4 : 2, 16, 24, gpt2});
  std::vector<std::vector<int32_t>> expected;
  for (const kernels::KernelTable* table : tables()) {
    const auto weights = load(file, *table, 3);
    for (const engine::EngineOptions options :
         {engine::EngineOptions{1, 1, 1}, {1, 3, 1}, {1, 1, 5}, {2, 1, 3}, {1, 3, 4}, {2, 2, 32}}) {
      Engine engine(weights, options);
      const auto requests = some_requests();
      for (const auto& r : requests) engine.submit(r);
      const auto done = collect(engine, requests.size());
      std::vector<std::vector<int32_t>> texts;
      for (const auto& [ticket, result] : done) texts.push_back(result.tokens);
      if (expected.empty()) expected = texts;
      CHECK(texts == expected);
      const engine::EngineStats stats = engine.stats();
      CHECK(stats.new_tokens > 0 && stats.busy_ns > 0 && stats.gemm_ns > 0);
    }
  }
}

// Many rows over a large vocabulary store their likely logits alone, one row stores all.
void test_likely_logits() {
  const auto weights = load(testing::tiny_file({"int8", 30'001}), *tables().front());
  for (const auto& [top_k, temperature] : {std::pair<int64_t, float>{40, 0.9f}, {64, 1.5f}, {65, 1.5f}, {3, 0.0f}}) {
    std::vector<std::map<int64_t, std::vector<int32_t>>> texts;
    for (const int64_t slots : {1, 16}) {
      Engine engine(weights, {1, 1, slots});
      for (uint64_t seed = 0; seed < 32; ++seed) {
        auto wanted = request({1, static_cast<int32_t>(seed)}, 12, seed);
        wanted->sampling = {temperature, top_k, 1, 0, 1, seed, 0};
        engine.submit(wanted);
      }
      texts.emplace_back();
      for (const auto& [ticket, result] : collect(engine, 32)) texts.back()[ticket] = result.tokens;
    }
    CHECK(texts[0] == texts[1]);
  }
}

void test_cancel_storm() {
  const auto weights = load(testing::tiny_file({}), *tables().front());
  Engine engine(weights, {2, 2, 3});
  std::vector<int64_t> tickets;
  std::thread storm([&] {
    for (int64_t i = 1; i < 120; ++i) engine.cancel(i), std::this_thread::yield();
  });
  for (const int64_t channel : {int64_t{0}, engine.open_channel()})
    for (uint64_t i = 0; i < 60; ++i)
      tickets.push_back(engine.submit(request({1, static_cast<int32_t>(i % 7)}, 30, i, channel)));
  storm.join();
  CHECK(collect(engine, 60, 0).size() == 60);
  engine.close_channel(1);
  engine.submit(request({1}, 5));
  CHECK(collect(engine, 1, 0).begin()->second.finish == Finish::length);
  for (uint64_t i = 0; i < 20; ++i) engine.submit(request({1, 2, 3}, 30, i));  // left behind: the destructor ends them
}

void test_limits() {
  const auto weights = load(testing::tiny_file({}), *tables().front());
  Engine engine(weights, {1, 1, 2});
  const auto answer = [&](std::vector<int32_t> tokens, int64_t count) {
    engine.submit(request(std::move(tokens), count));
    return collect(engine, 1).begin()->second;
  };
  CHECK(answer({}, 3).finish == Finish::invalid_input);
  CHECK(answer({60}, 3).finish == Finish::invalid_input);
  CHECK(answer({-1}, 3).finish == Finish::invalid_input);
  CHECK(answer(std::vector<int32_t>(41, 3), 3).finish == Finish::invalid_input);
  CHECK(answer(std::vector<int32_t>(40, 3), 3).finish == Finish::context_full);
  CHECK(answer(std::vector<int32_t>(39, 3), 3).tokens.size() <= 1);
  CHECK(answer({3}, 0).finish == Finish::length);
  CHECK(answer({3}, -5).finish == Finish::length);
  auto odd = request({3}, 3, 1);
  odd->sampling.temperature = std::numeric_limits<float>::quiet_NaN();
  engine.submit(odd);
  CHECK(collect(engine, 1).begin()->second.finish == Finish::invalid_input);
}

void test_damaged_files() {
  const testing::TinyModel model{testing::TinyOptions{}};
  const std::string file = model.file();
  const auto refused = [](const std::string& content) {
    try {
      load(content, *tables().back());
    } catch (const engine::FormatError&) {
      return true;
    }
    return false;
  };
  CHECK(!refused(file));
  for (size_t length = 0; length < file.size(); length += length < 3000 ? 7 : 61)
    CHECK(refused(file.substr(0, length)));
  CHECK(refused(file + "x"));
  CHECK(refused(model.file("0123456789abcdef")));
  std::mt19937 random(9);
  for (int i = 0; i < 3000; ++i) {
    std::string altered = file;
    altered[random() % altered.size()] ^= static_cast<char>(1 << random() % 8);
    refused(altered);  // most are; none may crash
  }
}

#if !defined(__SANITIZE_THREAD__)
// Memory runs out at the n-th allocation, for every n until all goes well: an error each time, never a crash or a leak.
void test_failing_allocations() {
  const std::string file = testing::tiny_file({});
  int64_t n = 0;
  for (bool done = false; !done; ++n) {
    try {
      allocations_left = n;
      counts_allocations = true;
      const auto weights = load(file, *tables().front());
      Engine engine(weights, {1, 2, 2});
      engine.submit(request({1, 5, 6}, 4));
      const std::vector<Result> results = engine.collect(0, kWaitNs);
      done = allocations_left > 0;
      CHECK(!done || results.size() == 1);
    } catch (const std::bad_alloc&) {
    } catch (const std::runtime_error&) {
    }
    counts_allocations = false;
    allocations_left = -1;
    CHECK(n < 100000);
  }
  CHECK(n > 50);
}

// Logits that find no memory are answered so, and the engine goes on.
void test_no_memory_for_logits() {
  const auto weights = load(testing::tiny_file({}), *tables().front());
  Engine engine(weights, {1, 1, 2});
  const auto logits = [&](size_t positions) {
    auto wanted = request(std::vector<int32_t>(positions, 3), 0);
    wanted->task = engine::Task::logits;
    engine.submit(wanted);
    return collect(engine, 1).begin()->second;
  };
  const size_t one = static_cast<size_t>(weights->config().vocab_size);
  largest_allocation = 20 * one * sizeof(float);
  const Result refused = logits(30), given = logits(20);
  largest_allocation = SIZE_MAX;
  CHECK(refused.finish == Finish::invalid_input && refused.error.find("no memory") == 0);
  CHECK(given.finish == Finish::length && given.logits.size() == 20 * one && given.logits[0] != 0);
}
#endif

}  // namespace

#if !defined(__SANITIZE_THREAD__)
void* operator new(size_t size) {
  if (size > largest_allocation.load()) throw std::bad_alloc();
  if (allocations_left.load() >= 0 && counts_allocations && allocations_left.fetch_sub(1) <= 0) {
    allocations_left = 0;
    throw std::bad_alloc();
  }
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#endif

int main() {
  testing::test_philox();
  testing::test_top_k();
  testing::test_pace();
  testing::test_team_spreads();
  testing::test_divide_rows();
  testing::test_json();
  test_damaged_files();
  test_limits();
  for (const char* precision : {"f32", "bf16", "int8", "int4"}) test_same_text_everywhere(precision, false);
  test_same_text_everywhere("int8", true);
  test_likely_logits();
  test_cancel_storm();
#if !defined(__SANITIZE_THREAD__)
  test_failing_allocations();
  test_no_memory_for_logits();
#endif
  std::puts("engine: all tests passed");
}
