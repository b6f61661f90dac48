#include "sampler.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "philox.h"

namespace tinylm::engine {

namespace {

constexpr float kColdest = 1e-6f;  // colder is greedy: 1 / temperature must stay finite
constexpr int64_t kBlock = kernels::kMaximaBlock;

constexpr int64_t kRanked = 128;  // up to so many candidates are counted, not sorted (chosen: counting is quadratic)
constexpr int kBoundPasses = 12;

// Integers in the order of the logits.
int32_t order_key(float logit) {
  int32_t bits;
  std::memcpy(&bits, &logit, sizeof(bits));
  return bits < 0 ? bits ^ 0x7fffffff : bits;
}

// A key whose order is: larger logit first, then smaller id (when sorted descending).
uint64_t sort_key(float logit, int32_t id) {
  return static_cast<uint64_t>(static_cast<uint32_t>(order_key(logit)) ^ 0x80000000u) << 32 |
         static_cast<uint32_t>(~id);
}

}  // namespace

Sampler::Sampler(const kernels::KernelTable& table, int64_t vocab_size)
    : table_(table),
      vocab_size_(vocab_size),
      blocks_((vocab_size + kBlock - 1) / kBlock),
      chosen_(static_cast<size_t>(vocab_size)),
      keys_(static_cast<size_t>(vocab_size)),
      values_(static_cast<size_t>(std::max(vocab_size, blocks_))),
      weights_(static_cast<size_t>(vocab_size)),
      plain_(static_cast<size_t>(vocab_size)) {}

int64_t Sampler::deciding(const SamplingOptions& options) const {
  if (options.repetition_penalty != 1.0f) return 0;
  if (options.temperature < kColdest) return 1;
  return cuts_to_top(options) ? options.top_k : 0;
}

int32_t Sampler::choose(float* logits, float* maxima, float floor, const SamplingOptions& options,
                        const std::vector<int32_t>& seen, uint64_t position, float* log_prob) {
  const bool penalised = options.repetition_penalty != 1.0f;
  const Total before = log_prob != nullptr ? total(logits, maxima) : Total{};
  const float* plain = logits;
  if (log_prob != nullptr && penalised) {
    std::copy(logits, logits + vocab_size_, plain_.begin());
    plain = plain_.data();
  }
  if (penalised) penalise(logits, maxima, options.repetition_penalty, seen);
  const int32_t token = draw(logits, maxima, floor, options, position);
  if (log_prob != nullptr)
    *log_prob = static_cast<float>(static_cast<double>(plain[token]) - before.max - before.log_sum);
  return token;
}

int32_t Sampler::draw(const float* logits, const float* maxima, float floor, const SamplingOptions& options,
                      uint64_t position) {
  if (options.temperature < kColdest) return greedy(logits, maxima);
  const float max = maximum(maxima);
  const double random = uniform(options.seed, options.sample, position);
  const bool top = cuts_to_top(options);
  if (!top && options.top_p >= 1.0f && options.min_p <= 0.0f) return draw_any(logits, max, options, random);
  const Kept kept = top ? keep_top(logits, maxima, floor, max, options) : keep_nucleus(logits, maxima, max, options);
  if (kept.count == 0) return greedy(logits, maxima);  // every logit is NaN: weights too large for float
  double sum = 0;
  for (int64_t i = 0; i < kept.count; ++i) {
    sum += static_cast<double>(weights_[static_cast<size_t>(i)]);
    if (sum > random * kept.mass) return chosen_[static_cast<size_t>(i)];
  }
  return chosen_[static_cast<size_t>(kept.count - 1)];
}

float Sampler::maximum(const float* maxima) { return table_.block_max(maxima, blocks_, values_.data()); }

// CTRL (1909.05858): a token seen before has a positive logit divided and a negative one multiplied.
void Sampler::penalise(float* logits, float* maxima, float penalty, const std::vector<int32_t>& seen) const {
  for (const int32_t token : seen) {
    float& logit = logits[token];
    logit = logit > 0 ? logit / penalty : logit * penalty;
  }
  for (const int32_t token : seen) {
    const int64_t block = token / kBlock, begin = block * kBlock;
    table_.block_max(logits + begin, std::min(kBlock, vocab_size_ - begin), maxima + block);
  }
}

int32_t Sampler::greedy(const float* logits, const float* maxima) {
  const float max = maximum(maxima);
  for (int64_t b = 0; b < blocks_; ++b) {
    if (maxima[b] != max) continue;
    for (int64_t i = b * kBlock; i < std::min(vocab_size_, (b + 1) * kBlock); ++i)
      if (logits[i] == max) return static_cast<int32_t>(i);
  }
  return 0;  // NaN
}

int64_t Sampler::select(const float* logits, const float* maxima, float threshold) {
  return table_.select_at_least(logits, vocab_size_, maxima, threshold, chosen_.data(), vocab_size_);
}

// A bound that k block maxima reach, or a few more, by halving the range between the least and the largest: each pass
// counts them without a branch, and nth_element took 7 us for the 786 of V = 50,257.
float Sampler::bound(const float* maxima, float floor, float max, int64_t k) const {
  float low = max, high = max;
  for (int64_t b = 0; b < blocks_; ++b) low = maxima[b] < low ? maxima[b] : low;
  low = std::max(low, floor);
  for (int pass = 0; pass < kBoundPasses; ++pass) {
    const float middle = low + (high - low) * 0.5f;
    int32_t count = 0;
    for (int64_t b = 0; b < blocks_; ++b) count += maxima[b] >= middle;
    (count >= k ? low : high) = middle;
    if (count >= k && count <= k + k / 8) break;
  }
  return low;
}

// Candidates that contain the k likeliest: a bound that k block maxima reach usually leaves k to 2 k; with fewer
// blocks than k the bound is lowered until enough are found.
int64_t Sampler::select_top(const float* logits, const float* maxima, float floor, float max, int64_t k) {
  float threshold = bound(maxima, floor, max, std::min(k, blocks_));
  float step = (max - threshold) * 0.5f + 0.5f;
  int64_t count = select(logits, maxima, threshold);
  for (; count < k && step < 1e30f; step *= 2) {
    threshold -= step;
    count = select(logits, maxima, threshold);
  }
  return count;
}

// Leaves the `keep` likeliest of chosen_[0 .. count) in order of likelihood.
void Sampler::sort(const float* logits, int64_t count, int64_t keep) {
  if (count <= kRanked) rank(logits, count, keep);
  else sort_keys(logits, count, keep);
  for (int64_t i = 0; i < keep; ++i) values_[static_cast<size_t>(i)] = logits[chosen_[static_cast<size_t>(i)]];
}

// Each candidate's place is the number of larger ones: few candidates' places are counted, which has no branch to
// mispredict. Among equals the smaller ids, which come first, take the first places.
void Sampler::rank(const float* logits, int64_t count, int64_t keep) {
  int32_t keys[kRanked], ids[kRanked], placed[kRanked];
  for (int64_t i = 0; i < count; ++i) {
    ids[i] = chosen_[static_cast<size_t>(i)];
    keys[i] = order_key(logits[ids[i]]);
    placed[i] = -1;
  }
  for (int64_t i = 0; i < count; ++i) {
    int32_t place = 0;
    for (int64_t j = 0; j < count; ++j) place += keys[j] > keys[i];
    while (placed[place] >= 0) ++place;
    placed[place] = ids[i];
  }
  std::copy(placed, placed + keep, chosen_.begin());
}

void Sampler::sort_keys(const float* logits, int64_t count, int64_t keep) {
  const auto begin = keys_.begin(), end = begin + count, kept = begin + keep;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t id = chosen_[static_cast<size_t>(i)];
    keys_[static_cast<size_t>(i)] = sort_key(logits[id], id);
  }
  if (keep < count) std::nth_element(begin, kept, end, std::greater<uint64_t>());
  std::sort(begin, kept, std::greater<uint64_t>());
  for (int64_t i = 0; i < keep; ++i)
    chosen_[static_cast<size_t>(i)] = static_cast<int32_t>(~static_cast<uint32_t>(keys_[static_cast<size_t>(i)]));
}

void Sampler::weigh(int64_t count, float max, float inverse_temperature) {
  table_.exp(values_.data(), count, max, inverse_temperature, weights_.data());
}

// Top-p, then min-p, on candidates in order of likelihood; `total` is the mass that top-p is a share of.
Sampler::Kept Sampler::cut(int64_t count, double total, const SamplingOptions& options) const {
  const double limit = options.top_p < 1.0f ? static_cast<double>(options.top_p) * total : 2 * total;
  Kept kept{0, 0};
  for (; kept.count < count; ++kept.count) {
    const float weight = weights_[static_cast<size_t>(kept.count)];
    if (kept.count > 0 && (kept.mass >= limit || weight < options.min_p)) break;
    kept.mass += static_cast<double>(weight);
  }
  return kept;
}

Sampler::Kept Sampler::keep_top(const float* logits, const float* maxima, float floor, float max,
                                const SamplingOptions& options) {
  const int64_t found = select_top(logits, maxima, floor, max, options.top_k), count = std::min(found, options.top_k);
  sort(logits, found, count);
  weigh(count, max, 1.0f / options.temperature);
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += static_cast<double>(weights_[static_cast<size_t>(i)]);
  return cut(count, total, options);
}

// Without top-k: widens the window below the best logit until it holds the mass that top-p wants, or all that min-p
// allows. What is left out weighs less than exp(-4 * 2^(n - 1)) of the best each after n rounds, so few rounds do.
Sampler::Kept Sampler::keep_nucleus(const float* logits, const float* maxima, float max,
                                    const SamplingOptions& options) {
  const float inverse = 1.0f / options.temperature;
  const double total = static_cast<double>(table_.sum_exp(logits, vocab_size_, max, inverse));
  const double wanted = options.top_p < 1.0f ? static_cast<double>(options.top_p) * total : 2 * total;
  for (float width = 4.0f;; width *= 2) {
    const int64_t count = select(logits, maxima, max - width * options.temperature);
    sort(logits, count, count);
    weigh(count, max, inverse);
    const Kept kept = cut(count, total, options);
    if (kept.count < count || kept.mass >= wanted || count >= vocab_size_ || width > 1e30f) return kept;
  }
}

int32_t Sampler::draw_any(const float* logits, float max, const SamplingOptions& options, double random) {
  table_.exp(logits, vocab_size_, max, 1.0f / options.temperature, weights_.data());
  double total = 0, sum = 0;
  for (int64_t i = 0; i < vocab_size_; ++i) total += static_cast<double>(weights_[static_cast<size_t>(i)]);
  for (int64_t i = 0; i < vocab_size_; ++i) {
    sum += static_cast<double>(weights_[static_cast<size_t>(i)]);
    if (sum > random * total) return static_cast<int32_t>(i);
  }
  return static_cast<int32_t>(vocab_size_ - 1);
}

Sampler::Total Sampler::total(const float* logits, const float* maxima) {
  const float max = maximum(maxima);
  const double sum = static_cast<double>(table_.sum_exp(logits, vocab_size_, max, 1.0f));
  return {static_cast<double>(max), kernels::natural_log(sum)};
}

float Sampler::log_prob(const float* logits, const float* maxima, int32_t token) {
  const Total all = total(logits, maxima);
  return static_cast<float>(static_cast<double>(logits[token]) - all.max - all.log_sum);
}

}  // namespace tinylm::engine
