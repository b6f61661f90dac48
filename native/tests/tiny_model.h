// Tiny model files made in memory, for tests and fuzzing.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "model_file.h"

namespace tinylm::testing {

struct TinyOptions {
  std::string precision = "int8";
  int64_t vocab = 60, context = 40, layers = 2, heads = 4, kv_heads = 2, width = 16, ff = 24;
  bool gpt2 = false;  // LayerNorm, learned positions, GELU, biases; else Llama with QK-norm
};

class TinyModel {
 public:
  explicit TinyModel(const TinyOptions& options) : o_(options) {
    const int64_t D = o_.width / o_.heads, Q = o_.width, G = o_.kv_heads * D;
    add("tokenizer", "U8", {3}, "abc");
    matrix("tok_embeddings", o_.vocab, o_.width, 0.8f);
    if (!o_.gpt2) matrix("ngram_embeddings.2", 31, o_.width, 0.4f), matrix("ngram_embeddings.3", 64, o_.width, 0.4f);
    if (!o_.gpt2) matrix("copy_embeddings", o_.vocab + 5, o_.width, 0.4f);
    if (o_.gpt2) floats("pos_embeddings.weight", {o_.context, o_.width}, 0.3f);
    for (int64_t i = 0; i < o_.layers; ++i) {
      const std::string layer = "layers." + std::to_string(i) + ".";
      norm(layer + "attn_norm"), norm(layer + "mlp_norm");
      linear(layer + "attn.wq", Q, o_.width), linear(layer + "attn.wk", G, o_.width);
      linear(layer + "attn.wv", G, o_.width), linear(layer + "attn.wo", o_.width, Q);
      if (!o_.gpt2) {
        matrix("value_embeddings." + std::to_string(i), o_.vocab, G, 0.5f);
        linear(layer + "mlp.w_gate", o_.ff, o_.width);
        floats(layer + "attn.q_norm.weight", {D}, 0.0f, 1.0f), floats(layer + "attn.k_norm.weight", {D}, 0.0f, 1.0f);
      }
      linear(layer + "mlp.w_up", o_.ff, o_.width), linear(layer + "mlp.w_down", o_.width, o_.ff);
    }
    norm("norm");
  }

  // The file; `sum` is the digest to claim, computed when empty.
  std::string file(const std::string& sum = "") const {
    std::map<std::string, std::string> metadata = {
        {"format", "tinylm"},        {"format_version", "1"}, {"precision", o_.precision},
        {"tokenizer_kind", "bytes"}, {"bos_id", "1"},         {"eos_id", "2"},
        {"add_bos", "true"},         {"provenance", "{}"},    {"config", config()}};
    uint64_t total = 0;
    for (const auto& [key, value] : metadata) total = fold(total, value);
    for (const auto& [name, tensor] : tensors_) total = fold(total, tensor.data);
    char hex[32];
    std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(total));
    metadata["sum64"] = sum.empty() ? hex : sum;
    metadata["sha256"] = std::string(64, '0');
    std::string header = "{\"__metadata__\":{", data;
    for (const auto& [key, value] : metadata) header += quoted(key) + ":" + quoted(value) + ",";
    header.back() = '}';
    for (const auto& [name, tensor] : tensors_) {
      header += "," + quoted(name) + ":{\"dtype\":\"" + tensor.dtype + "\",\"shape\":[" + tensor.shape +
                "],\"data_offsets\":[" + std::to_string(data.size()) + "," +
                std::to_string(data.size() + tensor.data.size()) + "]}";
      data += tensor.data;
    }
    header += "}";
    std::string length(8, '\0');
    for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i));
    return length + header + data;
  }

 private:
  struct Tensor {
    std::string dtype, shape, data;
  };

  static std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) out += c == '"' ? std::string("\\\"") : std::string(1, c);
    return out + "\"";
  }

  static uint64_t fold(uint64_t total, const std::string& blob) {
    return engine::fold_sum(total, engine::weighted_sum(reinterpret_cast<const uint8_t*>(blob.data()), blob.size(), 0),
                            blob.size());
  }

  std::string config() const {
    const auto number = [](const char* key, int64_t value) {
      return "\"" + std::string(key) + "\":" + std::to_string(value) + ",";
    };
    return "{" + number("vocab_size", o_.vocab) + number("context_length", o_.context) + number("n_layers", o_.layers) +
           number("n_heads", o_.heads) + number("n_kv_heads", o_.kv_heads) + number("d_model", o_.width) +
           number("d_ff", o_.ff) + number("head_dim", 0) + "\"norm\":\"" + (o_.gpt2 ? "layernorm" : "rmsnorm") +
           "\",\"position\":\"" + (o_.gpt2 ? "learned" : "rope") + "\",\"activation\":\"" +
           (o_.gpt2 ? "gelu" : "swiglu") + "\",\"bias\":" + (o_.gpt2 ? "true" : "false") +
           ",\"tied_embeddings\":true,\"qk_norm\":" +
           (o_.gpt2 ? "false" : "true,\"value_embeddings\":true,\"ngram_rows\":[31,64],\"copy_ngrams\":4") +
           ",\"logit_softcap\":0.0,\"rope_theta\":10000.0,\"rotary_fraction\":1.0,\"norm_eps\":1e-05,"
           "\"parallel_residual\":false,\"local_window\":0,\"local_layers\":[]}";
  }

  float random() {  // xorshift, uniform in -1..1
    state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
    return static_cast<float>(static_cast<int64_t>(state_ >> 40) - (1 << 23)) / static_cast<float>(1 << 23);
  }

  void add(const std::string& name, const char* dtype, const std::vector<int64_t>& shape, std::string data) {
    std::string text;
    for (const int64_t extent : shape) text += (text.empty() ? "" : ",") + std::to_string(extent);
    tensors_[name] = {dtype, text, std::move(data)};
  }

  template <typename T>
  static void push(std::string& data, T value) {
    data.append(reinterpret_cast<const char*>(&value), sizeof value);
  }

  void floats(const std::string& name, const std::vector<int64_t>& shape, float spread, float centre = 0.0f) {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    std::string data;
    for (int64_t i = 0; i < count; ++i) push(data, centre + spread * random());
    add(name, "F32", shape, data);
  }

  void norm(const std::string& name) {
    floats(name + ".weight", {o_.width}, 0.2f, 1.0f);
    if (o_.gpt2) floats(name + ".bias", {o_.width}, 0.1f);
  }

  void linear(const std::string& name, int64_t rows, int64_t width) {
    matrix(name, rows, width, 0.5f);
    if (o_.gpt2) floats(name + ".bias", {rows}, 0.1f);
  }

  void matrix(const std::string& name, int64_t rows, int64_t width, float spread) {
    if (o_.precision == "f32") return floats(name + ".weight", {rows, width}, spread);
    std::string data;
    if (o_.precision == "bf16") {
      for (int64_t i = 0; i < rows * width; ++i) {
        const float value = spread * random();
        uint32_t bits;
        std::memcpy(&bits, &value, 4);
        push(data, static_cast<uint16_t>(bits >> 16));
      }
      return add(name + ".weight", "BF16", {rows, width}, data);
    }
    const bool nibbles = o_.precision == "int4";
    const int64_t bytes = nibbles ? (width + 1) / 2 : width;
    for (int64_t i = 0; i < rows * bytes; ++i) push(data, static_cast<int8_t>(127.0f * random()));
    add(name + ".weight", nibbles ? "U8" : "I8", {rows, bytes}, data);
    std::vector<int64_t> scales = {rows};
    if (nibbles) scales.push_back((width + 31) / 32);
    floats(name + ".scale", scales, spread / (nibbles ? 64.0f : 1024.0f), spread / (nibbles ? 8.0f : 127.0f));
  }

  TinyOptions o_;
  uint64_t state_ = 88172645463325252u;
  std::map<std::string, Tensor> tensors_;
};

inline std::string tiny_file(const TinyOptions& options) { return TinyModel(options).file(); }

}  // namespace tinylm::testing
