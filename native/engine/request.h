// What goes into the engine and what comes out of it: plain values.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tinylm::engine {

// generate: continue the tokens. score: log-probability of each token after the first, the first being context.
// logits: all logits at every position, for tests.
enum class Task { generate, score, logits };
enum class Finish { stop, length, context_full, invalid_input, cancelled };

struct SamplingOptions {
  float temperature = 0.8f;  // 0: greedy
  int64_t top_k = 0;         // 0: off
  float top_p = 1, min_p = 0, repetition_penalty = 1;
  uint64_t seed = 0, sample = 0;
};

// The bytes that each token adds to a text.
struct TokenBytes {
  std::string bytes;
  std::vector<uint64_t> offsets;  // V' + 1; tokens past the end add nothing

  void append(int32_t token, std::string& text) const {
    const size_t t = static_cast<size_t>(token);
    if (t + 1 < offsets.size()) text.append(bytes, offsets[t], offsets[t + 1] - offsets[t]);
  }
};

struct Request {
  int64_t ticket = 0, channel = 0;
  Task task = Task::generate;
  std::vector<int32_t> tokens;
  int64_t max_new_tokens = 0;
  SamplingOptions sampling;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  bool stream = false;      // deliver text as it comes
  bool log_probs = false;   // of generated tokens
  bool trim_space = false;  // drop one leading space of the text
  int64_t submitted_ns = 0;
  std::shared_ptr<const TokenBytes> token_bytes;  // null: no text, no stop strings
  std::atomic<bool> cancelled{false};
};

struct Result {
  int64_t ticket = 0, channel = 0;
  bool partial = false;  // only `text` counts: the next piece of a stream
  Finish finish = Finish::stop;
  std::string error, text;
  std::vector<int32_t> tokens;
  int64_t prompt_tokens = 0;
  int64_t submitted_ns = 0, started_ns = 0, first_token_ns = 0, finished_ns = 0;
  std::vector<int64_t> token_times_ns;
  // generate with log_probs: per new token, of the logits before a penalty. score: per token after the first.
  std::vector<float> log_probs;
  std::vector<float> logits;  // logits: (T, V)
};

}  // namespace tinylm::engine
