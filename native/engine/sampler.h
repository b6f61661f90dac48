// Chooses the next token from logits. A pure function of its arguments; the object only holds scratch memory.
//
// Order: repetition penalty, temperature, top-k, top-p, min-p; ties go to the smaller token id. At temperature 0
// greedy.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"
#include "request.h"

namespace tinylm::engine {

class Sampler {
 public:
  Sampler(const kernels::KernelTable& table, int64_t vocab_size);

  // How many of the largest logits decide the choice, or 0: all do.
  int64_t deciding(const SamplingOptions& options) const;
  // logits: (V), changed by the penalty. maxima: block_max of the logits. floor: blocks whose maximum is below it may
  // hold anything in place of their logits; at least deciding(options) maxima reach it, or it is -inf. seen: tokens of
  // prompt and text so far, each once, used by the penalty alone. position: tokens before the chosen one. log_prob:
  // where the choice's goes, of the logits as they were, which needs all of them; or null.
  int32_t choose(float* logits, float* maxima, float floor, const SamplingOptions& options,
                 const std::vector<int32_t>& seen, uint64_t position, float* log_prob);
  // Log-probability of `token` under the plain softmax of the logits.
  float log_prob(const float* logits, const float* maxima, int32_t token);

 private:
  struct Kept {
    int64_t count;
    double mass;  // sum of weights_[0 .. count)
  };

  struct Total {
    double max, log_sum;  // of exp(logit - max)
  };

  bool cuts_to_top(const SamplingOptions& options) const { return options.top_k > 0 && options.top_k < vocab_size_; }
  float maximum(const float* maxima);
  Total total(const float* logits, const float* maxima);
  int32_t draw(const float* logits, const float* maxima, float floor, const SamplingOptions& options,
               uint64_t position);
  void penalise(float* logits, float* maxima, float penalty, const std::vector<int32_t>& seen) const;
  int32_t greedy(const float* logits, const float* maxima);
  int64_t select(const float* logits, const float* maxima, float threshold);
  float bound(const float* maxima, float floor, float max, int64_t k) const;
  int64_t select_top(const float* logits, const float* maxima, float floor, float max, int64_t k);
  void sort(const float* logits, int64_t count, int64_t keep);
  void rank(const float* logits, int64_t count, int64_t keep);
  void sort_keys(const float* logits, int64_t count, int64_t keep);
  void weigh(int64_t count, float max, float inverse_temperature);
  Kept cut(int64_t count, double total, const SamplingOptions& options) const;
  Kept keep_top(const float* logits, const float* maxima, float floor, float max, const SamplingOptions& options);
  Kept keep_nucleus(const float* logits, const float* maxima, float max, const SamplingOptions& options);
  int32_t draw_any(const float* logits, float max, const SamplingOptions& options, double random);

  const kernels::KernelTable& table_;
  const int64_t vocab_size_, blocks_;
  std::vector<int32_t> chosen_;  // candidate ids; after sort, likeliest first
  std::vector<uint64_t> keys_;   // sortable: logit above, inverted id below
  std::vector<float> values_, weights_;
  std::vector<float> plain_;  // logits before a penalty
};

}  // namespace tinylm::engine
