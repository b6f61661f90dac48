// One model's weights, packed once for one kernel table, then constant and shared by all replicas.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "memory.h"
#include "model_file.h"

namespace tinylm::engine {

struct NormWeights {
  const float* weight = nullptr;  // (C) or (D)
  const float* bias = nullptr;    // or null
};

struct LayerWeights {
  NormWeights attn_norm, mlp_norm, q_norm, k_norm;  // q_norm, k_norm: null without QK-norm
  kernels::Matrix qkv;                              // wq at row 0, wk at k_row, wv at v_row
  kernels::Matrix value_embeddings;                 // (V, G·D), where the config has them
  kernels::Matrix wo;
  kernels::Matrix up;  // gate at row 0 and up at up_row when gated, else up alone
  kernels::Matrix down;
};

struct Weights {
  ModelHeader header;
  const kernels::KernelTable* kernels = nullptr;
  kernels::Matrix embeddings;           // (V, C)
  kernels::Matrix head;                 // (V, C); the same as embeddings when tied
  std::vector<kernels::Matrix> ngrams;  // of pairs, triples, ...: (rows, C)
  kernels::Matrix copies;               // (copy_rows, C), where the config has them
  const float* positions = nullptr;     // (context, C) when learned
  std::vector<LayerWeights> layers;
  NormWeights norm;
  int64_t k_row = 0, v_row = 0, qkv_rows = 0;  // rows of the stacked qkv matrix
  int64_t up_row = 0, up_rows = 0;             // rows of the stacked gate/up matrix
  std::string tokenizer;                       // the tokenizer file's bytes
  Pages arena;

  const Config& config() const { return header.config; }
  kernels::KvType kv_type() const;  // as precise as the weights
};

// Reads and packs a model with `threads` threads. Throws FormatError, FileError or EngineError.
// Peak memory: the packed weights, the scales as the file has them, and about 1 MB per thread.
std::shared_ptr<const Weights> load_weights(const ByteSource& source, const kernels::KernelTable& table, int threads);

}  // namespace tinylm::engine
