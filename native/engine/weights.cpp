#include "weights.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "errors.h"

namespace tinylm::engine {

namespace {

using kernels::Matrix;
using kernels::WeightType;

constexpr int64_t kMaxIntegerWidth = 131072;  // 127 * 127 * K < 2^31: the sum of a product stays exact
constexpr uint64_t kChunkBytes = 512 << 10;   // read and packed at once: fits L2 together with the packed copy

// One tensor of the file on its way into rows row_begin... of a packed matrix.
struct Part {
  const TensorEntry* entry;
  size_t index;  // of the tensor, for its sum
  std::string name;
  int64_t row_begin;
  std::vector<float> scales, bias;
};

struct Plan {
  Matrix* target;
  WeightType type;
  int64_t n, k;
  size_t offset = 0;  // in the arena
  std::vector<Part> parts;
};

struct Job {
  Plan* plan;
  Part* part;
  int64_t row, rows;
};

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (const int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + ")";
}

template <typename Bits>
void check_finite(const void* data, size_t count, Bits exponent, const std::string& name) {
  const Bits* bits = static_cast<const Bits*>(data);
  Bits bad = 0;
  for (size_t i = 0; i < count; ++i) bad |= static_cast<Bits>((bits[i] & exponent) == exponent);
  if (bad) throw FormatError("tensor " + name + " holds NaN or infinity; export the model again");
}

void check_values(const Part& part, const uint8_t* data, size_t bytes) {
  switch (part.entry->dtype) {
    case DType::f32: return check_finite<uint32_t>(data, bytes / 4, 0x7f800000u, part.name);
    case DType::bf16: return check_finite<uint16_t>(data, bytes / 2, 0x7f80, part.name);
    case DType::i8:
      if (std::memchr(data, 0x80, bytes) != nullptr)
        throw FormatError("tensor " + part.name + " holds -128, expected -127..127");
      return;
    case DType::u8: return;
  }
}

class Loader {
 public:
  Loader(const ByteSource& source, const kernels::KernelTable& table) : source_(source), table_(table) {}

  std::shared_ptr<const Weights> load(int threads) {
    weights_->kernels = &table_;
    weights_->header = read_header(source_);
    sums_ = std::vector<std::atomic<uint64_t>>(weights_->header.tensors.size());
    used_.resize(sums_.size());
    plan_all();
    if (std::count(used_.begin(), used_.end(), false))
      throw FormatError("holds tensors that its config has no use for");
    weights_->arena = Pages(arena_bytes_, true, "weights");
    for (Plan& plan : plans_)
      *plan.target = table_.matrix_view(plan.type, plan.n, plan.k, weights_->arena.data() + plan.offset);
    for (const Vector& vector : vectors_) read_vector(vector);
    pack(threads);
    if (weights_->config().tied_embeddings) weights_->head = weights_->embeddings;
    check_sum();
    return weights_;
  }

 private:
  struct Vector {
    const float** target;
    const TensorEntry* entry;
    size_t index;
    std::string name;
    size_t offset;
  };

  // --- What the config needs ---------------------------------------------------------------------------------------
  void plan_all() {
    const Config& c = weights_->config();
    weights_->k_row = kernels::round_up(c.q_width(), kernels::kLanes);
    weights_->v_row = weights_->k_row + kernels::round_up(c.kv_width(), kernels::kLanes);
    weights_->qkv_rows = weights_->v_row + c.kv_width();
    weights_->up_row = c.gated() ? kernels::round_up(c.d_ff, kernels::kLanes) : 0;
    weights_->up_rows = weights_->up_row + c.d_ff;
    read_tokenizer();
    plan_matrix(weights_->embeddings, c.vocab_size, c.d_model, {{"tok_embeddings", 0, c.vocab_size}}, false);
    if (!c.tied_embeddings) plan_matrix(weights_->head, c.vocab_size, c.d_model, {{"head", 0, c.vocab_size}}, false);
    if (c.position == PositionKind::learned)
      plan_vector(&weights_->positions, "pos_embeddings.weight", {c.context_length, c.d_model});
    weights_->ngrams.resize(c.ngram_rows.size());
    for (size_t i = 0; i < c.ngram_rows.size(); ++i)
      plan_matrix(weights_->ngrams[i], c.ngram_rows[i], c.d_model,
                  {{"ngram_embeddings." + std::to_string(i + 2), 0, c.ngram_rows[i]}}, false);
    if (c.copy_ngrams)
      plan_matrix(weights_->copies, c.copy_rows(), c.d_model, {{"copy_embeddings", 0, c.copy_rows()}}, false);
    weights_->layers.resize(static_cast<size_t>(c.n_layers));
    for (int64_t i = 0; i < c.n_layers; ++i) plan_layer(i);
    plan_norm(weights_->norm, "norm");
  }

  void plan_layer(int64_t index) {
    const Config& c = weights_->config();
    LayerWeights& layer = weights_->layers[static_cast<size_t>(index)];
    const std::string name = "layers." + std::to_string(index) + ".";
    plan_norm(layer.attn_norm, name + "attn_norm");
    plan_norm(layer.mlp_norm, name + "mlp_norm");
    plan_matrix(layer.qkv, weights_->qkv_rows, c.d_model,
                {{name + "attn.wq", 0, c.q_width()},
                 {name + "attn.wk", weights_->k_row, c.kv_width()},
                 {name + "attn.wv", weights_->v_row, c.kv_width()}},
                c.bias);
    if (c.value_embeddings)
      plan_matrix(layer.value_embeddings, c.vocab_size, c.kv_width(),
                  {{"value_embeddings." + std::to_string(index), 0, c.vocab_size}}, false);
    plan_matrix(layer.wo, c.d_model, c.q_width(), {{name + "attn.wo", 0, c.d_model}}, c.bias);
    std::vector<Rows> up;
    if (c.gated()) up.push_back({name + "mlp.w_gate", 0, c.d_ff});
    up.push_back({name + "mlp.w_up", weights_->up_row, c.d_ff});
    plan_matrix(layer.up, weights_->up_rows, c.d_model, up, c.bias);
    plan_matrix(layer.down, c.d_model, c.d_ff, {{name + "mlp.w_down", 0, c.d_model}}, c.bias);
    if (c.qk_norm) {
      plan_vector(&layer.q_norm.weight, name + "attn.q_norm.weight", {c.head_dim});
      plan_vector(&layer.k_norm.weight, name + "attn.k_norm.weight", {c.head_dim});
    }
  }

  void plan_norm(NormWeights& norm, const std::string& name) {
    const Config& c = weights_->config();
    plan_vector(&norm.weight, name + ".weight", {c.d_model});
    if (c.norm == NormKind::layernorm && c.bias) plan_vector(&norm.bias, name + ".bias", {c.d_model});
  }

  struct Rows {
    std::string name;
    int64_t row_begin, rows;
  };

  void plan_matrix(Matrix& target, int64_t n, int64_t k, const std::vector<Rows>& stack, bool bias) {
    Plan plan{&target, WeightType::f32, n, k, 0, {}};
    for (const Rows& rows : stack) {
      const auto& [index, entry] = take(rows.name + ".weight");
      const WeightType type = weight_type(*entry);
      if (!plan.parts.empty() && type != plan.type)
        throw FormatError("tensor " + rows.name + ".weight has another type than its neighbours");
      plan.type = type;
      if (k > kMaxIntegerWidth && (type == WeightType::q8 || type == WeightType::q4))
        throw FormatError("tensor " + rows.name + ".weight is " + std::to_string(k) +
                          " wide; int8 and int4 take at most " + std::to_string(kMaxIntegerWidth) +
                          ", use f32 or bf16");
      const bool packed = type == WeightType::q4;
      expect(rows.name + ".weight", *entry, entry->dtype, {rows.rows, packed ? (k + 1) / 2 : k});
      Part part{entry, index, rows.name + ".weight", rows.row_begin, {}, {}};
      if (type == WeightType::q8) part.scales = read_floats(rows.name + ".scale", {rows.rows});
      if (packed)
        part.scales = read_floats(rows.name + ".scale", {rows.rows, (k + kernels::kGroup - 1) / kernels::kGroup});
      if (bias) part.bias = read_floats(rows.name + ".bias", {rows.rows});
      plan.parts.push_back(std::move(part));
    }
    plan.offset = reserve(table_.packed_bytes(plan.type, n, k));
    plans_.push_back(std::move(plan));
  }

  static WeightType weight_type(const TensorEntry& entry) {
    switch (entry.dtype) {
      case DType::f32: return WeightType::f32;
      case DType::bf16: return WeightType::bf16;
      case DType::i8: return WeightType::q8;
      case DType::u8: return WeightType::q4;
    }
    throw FormatError("unknown tensor type");
  }

  void plan_vector(const float** target, const std::string& name, const std::vector<int64_t>& shape) {
    const auto& [index, entry] = take(name);
    expect(name, *entry, DType::f32, shape);
    vectors_.push_back({target, entry, index, name, reserve(entry->bytes)});
  }

  // --- Tensors of the file -----------------------------------------------------------------------------------------
  std::pair<size_t, const TensorEntry*> take(const std::string& name) {
    const auto& tensors = weights_->header.tensors;
    const auto found = tensors.find(name);
    if (found == tensors.end()) throw FormatError("tensor " + name + " is missing");
    const size_t index = static_cast<size_t>(std::distance(tensors.begin(), found));
    used_[index] = true;
    return {index, &found->second};
  }

  static void expect(const std::string& name, const TensorEntry& entry, DType dtype,
                     const std::vector<int64_t>& shape) {
    if (entry.dtype != dtype) throw FormatError("tensor " + name + " has another type than its place needs");
    if (entry.shape != shape)
      throw FormatError("tensor " + name + " has shape " + shape_text(entry.shape) + ", expected " + shape_text(shape));
  }

  std::vector<float> read_floats(const std::string& name, const std::vector<int64_t>& shape) {
    const auto& [index, entry] = take(name);
    expect(name, *entry, DType::f32, shape);
    std::vector<float> values(entry->bytes / 4);
    read_whole(*entry, index, values.data());
    check_finite<uint32_t>(values.data(), values.size(), 0x7f800000u, name);
    return values;
  }

  void read_vector(const Vector& vector) {
    float* to = reinterpret_cast<float*>(weights_->arena.data() + vector.offset);
    read_whole(*vector.entry, vector.index, to);
    check_finite<uint32_t>(to, vector.entry->bytes / 4, 0x7f800000u, vector.name);
    *vector.target = to;
  }

  void read_tokenizer() {
    const auto& [index, entry] = take("tokenizer");
    expect("tokenizer", *entry, DType::u8, {static_cast<int64_t>(entry->bytes)});
    weights_->tokenizer.resize(entry->bytes);
    read_whole(*entry, index, weights_->tokenizer.data());
  }

  void read_whole(const TensorEntry& entry, size_t index, void* to) {
    source_.read(entry.offset, to, entry.bytes);
    sums_[index] = weighted_sum(static_cast<const uint8_t*>(to), entry.bytes, 0);
  }

  size_t reserve(size_t bytes) {
    const size_t offset = arena_bytes_;
    arena_bytes_ += static_cast<size_t>(kernels::round_up(static_cast<int64_t>(bytes), kernels::kAlign));
    return offset;
  }

  // --- Packing -----------------------------------------------------------------------------------------------------
  void pack(int threads) {
    for (Plan& plan : plans_)
      for (Part& part : plan.parts) add_jobs(plan, part);
    std::vector<std::thread> helpers;
    try {
      for (int i = 1; i < threads && i < static_cast<int>(jobs_.size()); ++i) helpers.emplace_back([this] { work(); });
    } catch (...) {  // fewer helpers, then
    }
    work();
    for (std::thread& helper : helpers) helper.join();
    if (failure_) std::rethrow_exception(failure_);
  }

  void add_jobs(Plan& plan, Part& part) {
    const int64_t rows = part.entry->shape[0];
    const uint64_t row_bytes = part.entry->bytes / static_cast<uint64_t>(rows);
    const int64_t step =
        std::max<int64_t>(1, static_cast<int64_t>(kChunkBytes / row_bytes) / kernels::kLanes) * kernels::kLanes;
    for (int64_t row = 0; row < rows; row += step) jobs_.push_back({&plan, &part, row, std::min(step, rows - row)});
  }

  void work() noexcept {
    try {
      std::vector<uint8_t> chunk;
      for (size_t i; (i = next_job_.fetch_add(1)) < jobs_.size();) pack_chunk(jobs_[i], chunk);
    } catch (...) {
      const std::lock_guard<std::mutex> hold(failure_lock_);
      if (!failure_) failure_ = std::current_exception();
      next_job_ = jobs_.size();
    }
  }

  void pack_chunk(const Job& job, std::vector<uint8_t>& chunk) {
    const Part& part = *job.part;
    const uint64_t row_bytes = part.entry->bytes / static_cast<uint64_t>(part.entry->shape[0]);
    const uint64_t begin = row_bytes * static_cast<uint64_t>(job.row);
    chunk.resize(row_bytes * static_cast<uint64_t>(job.rows));
    source_.read(part.entry->offset + begin, chunk.data(), chunk.size());
    check_values(part, chunk.data(), chunk.size());
    sums_[part.index] += weighted_sum(chunk.data(), chunk.size(), begin / 8);  // 16 rows: a multiple of 8 bytes
    const int64_t scales_per_row = static_cast<int64_t>(part.scales.size()) / part.entry->shape[0];
    kernels::MatrixSource source{job.rows, job.plan->k, chunk.data(), nullptr, nullptr};
    if (!part.scales.empty()) source.scales = part.scales.data() + job.row * scales_per_row;
    if (!part.bias.empty()) source.bias = part.bias.data() + job.row;
    table_.pack_rows(*job.plan->target, part.row_begin + job.row, source);
  }

  void check_sum() const {
    uint64_t total = weights_->header.metadata_sum;
    size_t index = 0;
    for (const auto& [name, entry] : weights_->header.tensors) total = fold_sum(total, sums_[index++], entry.bytes);
    if (total != weights_->header.sum64)
      throw FormatError("content does not match its digest; the file is damaged, export it again");
  }

  const ByteSource& source_;
  const kernels::KernelTable& table_;
  std::shared_ptr<Weights> weights_ = std::make_shared<Weights>();
  size_t arena_bytes_ = 0;
  std::deque<Plan> plans_;  // stable addresses
  std::vector<Vector> vectors_;
  std::vector<bool> used_;
  std::vector<std::atomic<uint64_t>> sums_;
  std::vector<Job> jobs_;
  std::atomic<size_t> next_job_{0};
  std::mutex failure_lock_;
  std::exception_ptr failure_;
};

}  // namespace

kernels::KvType Weights::kv_type() const {
  if (header.precision == "f32") return kernels::KvType::f32;
  return header.precision == "bf16" ? kernels::KvType::bf16 : kernels::KvType::q8;
}

std::shared_ptr<const Weights> load_weights(const ByteSource& source, const kernels::KernelTable& table, int threads) {
  return Loader(source, table).load(threads);
}

}  // namespace tinylm::engine
