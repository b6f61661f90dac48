// Parts of the engine by themselves: sampling, random numbers, JSON, and how threads share work.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <locale>
#include <numeric>
#include <string>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <sched.h>
#endif

#include "errors.h"
#include "forward.h"
#include "json.h"
#include "pace.h"
#include "philox.h"
#include "sampler.h"
#include "team.h"

#define CHECK(condition)                                                   \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                        \
    }                                                                      \
  } while (false)

namespace tinylm::testing {

// --- How many threads a step gets ------------------------------------------------------------------------------
// Takes `steps` steps, each of which lasts one(step) or all(step), in which all threads together work that share of the
// time; returns how many of them went to all threads.
template <typename One, typename All>
int64_t pace_steps(engine::Pace& pace, int64_t steps, One one, All all, int64_t worked_percent = 0) {
  int64_t with_all = 0;
  for (int64_t step = 0; step < steps; ++step) {
    const bool every = pace.all_threads();
    with_all += every;
    const int64_t ticks = every ? all(step) : one(step);
    pace.record(ticks, every ? ticks * worked_percent / 100 : ticks);
  }
  return with_all;
}

inline void test_pace() {
  const auto takes = [](int64_t ticks) { return [ticks](int64_t) { return ticks; }; };
  // A neighbour that has a core half of the time stops whoever shares it: threads that wait for each other most of all.
  const auto stalled = [](int64_t step) { return int64_t{step % 20 == 0 ? 3000 : 100}; };
  engine::Pace pace;
  CHECK(pace.all_threads());
  CHECK(pace_steps(pace, 2000, takes(150), takes(100)) >= 1950);
  pace_steps(pace, 500, takes(150), stalled);
  CHECK(pace_steps(pace, 2000, takes(150), stalled) <= 200);  // a trial lasts until the neighbour comes
  pace_steps(pace, 500, takes(150), takes(100));
  CHECK(pace_steps(pace, 2000, takes(150), takes(100)) >= 1950);
  // So small a gain changes nothing; the other steps are trials.
  CHECK(pace_steps(pace, 4000, takes(97), takes(100)) >= 2400);
  // Threads that work most of the time are never called off for a trial, and resting ones are.
  engine::Pace several;
  CHECK(pace_steps(several, 2000, takes(150), takes(100), 180) == 2000);
  CHECK(pace_steps(several, 2000, takes(150), takes(200), 120) <= 100);
  CHECK(pace_steps(several, 2000, takes(150), takes(100), 180) >= 1700);
}

// --- Where the threads of a team run -------------------------------------------------------------------------------
#if defined(__linux__)
inline void stay_on(const std::vector<int>& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores) CPU_SET(core, &set);
  CHECK(sched_setaffinity(0, sizeof set, &set) == 0);
}

// A neighbour keeps one of two cores busy, this thread the other: a worker woken from it may be queued behind it, and
// must then go to the neighbour's.
inline void test_team_spreads() {
  cpu_set_t allowed;
  CHECK(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &allowed)) cores.push_back(core);
  if (cores.size() < 2) return;
  stay_on({cores[0], cores[1]});
  engine::Team team(2);
  std::atomic<bool> over{false};
  std::thread neighbour([&] {
    stay_on({cores[1]});
    while (!over) {
    }
  });
  stay_on({cores[0]});
  constexpr int kRounds = 100;
  int shared = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // longer than a worker spins
    auto job = [&](int thread) { shared += thread == 1 && sched_getcpu() == cores[0]; };
    team.run(job);
  }
  over = true;
  neighbour.join();
  CHECK(sched_setaffinity(0, sizeof allowed, &allowed) == 0);
  CHECK(shared <= kRounds / 10);  // 0 of 100 as a rule; 74 to 100 by the system's choice alone
}
#else
inline void test_team_spreads() {}
#endif

// Each part begins at the allowed row that is nearest to its share of the work.
inline void test_divide_rows() {
  const auto divided = [](const std::vector<engine::Segment>& segments, int64_t parts) {
    std::vector<int64_t> begins;
    engine::divide_rows(segments, parts, {1000, 1}, begins);
    return begins;
  };
  const auto texts = [](int64_t count, int64_t position) {
    return std::vector<engine::Segment>(static_cast<size_t>(count), {0, position, 1, nullptr, 1});
  };
  using Rows = std::vector<int64_t>;
  CHECK(divided(texts(24, 100), 2) == (Rows{0, 12}));
  CHECK(divided(texts(64, 7), 4) == (Rows{0, 16, 32, 48}));
  CHECK(divided(texts(13, 5), 2) == (Rows{0, 6}) || divided(texts(13, 5), 2) == (Rows{0, 7}));
  CHECK(divided({{0, 0, 200, nullptr, 1}}, 2) == (Rows{0, 104}));  // half of the work, by position; a multiple of eight
  CHECK(divided({{0, 3, 60, nullptr, 1}}, 2) == (Rows{0, 29}));    // position 32
  std::vector<engine::Segment> mixed = texts(10, 50);
  mixed.push_back({0, 0, 40, nullptr, 1});
  CHECK(divided(mixed, 2) == (Rows{0, 26}));  // ten texts and two tiles of the prompt
  CHECK(divided(texts(3, 0), 1) == (Rows{0}));
}

inline void test_json() {
  const auto refused = [](const std::string& text) {
    try {
      engine::Json::parse(text);
    } catch (const engine::FormatError&) {
      return true;
    }
    return false;
  };
  for (const char* good : {"0", "-1.5e+3", "[]", "{}", " {\"a\" : [1, true, null, \"\\u00e9\\ud83d\\ude00\\n\"]} "})
    CHECK(!refused(good));
  for (const char* bad :
       {"", "01x", "-", "1.", "1e", "1e999", "[1,]", "{\"a\":1,\"a\":2}", "{a:1}", "\"\\ud800\"", "\"\\q\"", "\"\n\"",
        "nul", "[", "\"", "{\"a\"", "1 2", "NaN", "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]"})
    CHECK(refused(bad));
  CHECK(refused("[" + std::string(1000000, ',') + "]"));
  struct Comma : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
  };
  std::locale::global(std::locale(std::locale::classic(), new Comma));
  CHECK(engine::Json::parse("0.25").number("x") == 0.25);
  std::locale::global(std::locale::classic());
  std::string many = "[0";
  for (int i = 0; i < 500000; ++i) many += ",0";
  CHECK(refused(many + "]"));
}

// Known answers of the generator's authors (Random123, kat_vectors: philox4x32 10).
inline void test_philox() {
  const std::array<uint32_t, 4> zeros{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u};
  const std::array<uint32_t, 4> ones{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu};
  const std::array<uint32_t, 4> pi{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u};
  CHECK(engine::philox({0, 0, 0, 0}, {0, 0}) == zeros);
  CHECK(engine::philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) == ones);
  CHECK(engine::philox({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, {0xa4093822u, 0x299f31d0u}) == pi);
}

// The token that top-k sampling must draw: candidates in order of likelihood, equals in order of their ids.
inline int32_t draw_plainly(const kernels::KernelTable& table, const std::vector<float>& logits,
                            const engine::SamplingOptions& options, uint64_t position) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto value = [&](int32_t id) { return logits[static_cast<size_t>(id)]; };
  std::sort(ids.begin(), ids.end(),
            [&](int32_t a, int32_t b) { return value(a) > value(b) || (value(a) == value(b) && a < b); });
  ids.resize(static_cast<size_t>(options.top_k));
  std::vector<float> weights;
  for (const int32_t id : ids) weights.push_back(value(id));
  table.exp(weights.data(), options.top_k, weights[0], 1.0f / options.temperature, weights.data());
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0),
               random = engine::uniform(options.seed, options.sample, position);
  double sum = 0;
  for (size_t i = 0; i < ids.size(); ++i)
    if ((sum += static_cast<double>(weights[i])) > random * total) return ids[i];
  return ids.back();
}

// Few candidates and many, few blocks of logits and many, logits that all differ and logits with many equals.
inline void test_top_k() {
  const kernels::KernelTable& table = *kernels::find_kernels("auto");
  for (const int64_t vocab_size : {97, 3000, 50257})
    for (const int64_t steps : {3, 40, 1 << 22})
      for (const int64_t top_k : {1, 5, 40, 96, 1500}) {
        if (top_k >= vocab_size) continue;
        engine::Sampler sampler(table, vocab_size);
        engine::SamplingOptions options{1.5f, top_k, 1, 0, 1, 7, static_cast<uint64_t>(steps)};
        for (uint64_t position = 0; position < 12; ++position) {
          std::vector<float> logits(static_cast<size_t>(vocab_size)), maxima(logits.size() / kernels::kMaximaBlock + 1);
          for (size_t i = 0; i < logits.size(); ++i)
            logits[i] = std::floor(static_cast<float>(engine::uniform(i, position, 0)) * static_cast<float>(steps)) /
                            static_cast<float>(steps) * 9 -
                        5;
          table.block_max(logits.data(), vocab_size, maxima.data());
          CHECK(sampler.choose(logits.data(), maxima.data(), -std::numeric_limits<float>::infinity(), options, {},
                               position, nullptr) == draw_plainly(table, logits, options, position));
        }
      }
}

}  // namespace tinylm::testing
