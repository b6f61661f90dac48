// The shape and parts of one model, as plain numbers. Axis letters as in kernels.h, plus C width, H query heads,
// G key/value heads, F feed-forward width, L layers.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels.h"

namespace tinylm::engine {

constexpr size_t kMaxNgramTables = 3;
constexpr int64_t kMaxCopyNgrams = 4;

enum class NormKind { rmsnorm, layernorm };
enum class PositionKind { rope, learned, sinusoidal };

struct Config {
  int64_t vocab_size, context_length;  // V, positions
  int64_t n_layers, n_heads, n_kv_heads;
  int64_t d_model, d_ff, head_dim, rotary_dim;
  NormKind norm;
  PositionKind position;
  kernels::Activation activation;
  bool bias, tied_embeddings, qk_norm, parallel_residual, value_embeddings;
  float logit_softcap, norm_eps;
  double rope_theta;
  int64_t local_window;             // positions that a local layer sees; 0: all
  std::vector<bool> is_local;       // per layer
  std::vector<int64_t> ngram_rows;  // rows of the tables of hashed pairs, triples, ...
  int64_t copy_ngrams;              // longest n-gram whose last use in the text is looked up; 0: off

  bool adds_to_embedding() const { return copy_ngrams > 0 || !ngram_rows.empty(); }
  int64_t copy_rows() const { return vocab_size + copy_ngrams + 1; }

  int64_t q_width() const { return n_heads * head_dim; }
  int64_t kv_width() const { return n_kv_heads * head_dim; }
  bool gated() const { return activation == kernels::Activation::swiglu; }
};

// Throws FormatError naming the field that is missing, unknown, of the wrong type or out of range.
Config parse_config(std::string_view json);

}  // namespace tinylm::engine
