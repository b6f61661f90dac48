// The kernels' whole contract: plain structs and one table of function pointers per instruction set.
//
// Every table computes the same bits. Integer dot products are exact, every float operation has one order
// (documented at each entry), fused multiply-add happens only where written "fma".
// Must not know: models, files, threads, Python. Nothing here allocates, throws, prints or keeps state.
//
// Axis letters: M token rows of one call, N output channels, K inner width, T positions, D head width, V vocabulary.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tinylm::kernels {

constexpr int64_t kLanes = 16;          // lanes of every float reduction; also output channels per packed block
constexpr int64_t kGroup = 32;          // q4: weights along K that share one scale
constexpr int64_t kPositionBlock = 16;  // positions per block of the K cache
constexpr int64_t kMaximaBlock = 64;    // logits per entry of block_max
constexpr size_t kAlign = 64;  // every buffer handed to a kernel starts on this many bytes, unless said otherwise

enum class WeightType : uint32_t { f32, bf16, q8, q4 };
enum class KvType : uint32_t { f32, bf16, q8 };
enum class Activation : uint32_t { swiglu, gelu, gelu_tanh, relu2 };

constexpr int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Weights as a model file holds them, row-major (n, k).
//   f32   float[n][k]
//   bf16  uint16_t[n][k]
//   q8    int8_t[n][k] in -127..127, scales float[n]
//   q4    uint8_t[n][ceil(k/2)]: element 2j in the low nibble of byte j, 2j+1 in the high one, value = nibble - 8,
//         scales float[n][ceil(k/32)]
struct MatrixSource {
  int64_t n, k;
  const void* data;
  const float* scales;  // q8, q4
  const float* bias;    // float[n] or null
};

// A view of packed weights inside one caller-owned buffer (see matrix_view). The layout belongs to the table that made
// it.
struct Matrix {
  WeightType type;
  int64_t n, k;
  uint8_t* data;      // blocks of 16 output channels
  float* scales;      // q8: one per channel, padded to 16. q4: [block][group][16]
  int32_t* row_sums;  // q8: sum of a channel's weights (for kernels with unsigned activations)
  float* bias;        // per channel, padded to 16, zero where absent
};

// Keys and values of consecutive kv heads of one layer and slot. Of each head, k: blocks [T/16][D][16 positions]; v:
// [T][D padded to 16]. q8: int8 with one scale per position for the key and one for the value (amax / 127, rounded as
// in prepare_row). bf16 and q8 are laid out as the table likes, so only its own functions read or write them.
struct KvView {
  KvType type;
  int64_t head_dim;
  void* k;  // of the first head
  void* v;
  int64_t heads = 1;
  int64_t step = 0;  // bytes from one head's keys or values to the next one's
};

// The cache of one head still to come, to be fetched meanwhile; null where there is none.
struct Upcoming {
  const void *k, *v;
};

// One attention call: `queries` consecutive positions of one slot, all `group` query heads of each kv head.
struct AttentionCall {
  KvView kv;
  int64_t group;             // query heads that share a kv head
  int64_t queries;           // query i stands at position first_position + i and sees positions 0..itself
  int64_t first_position;    // of query 0
  int64_t window;            // positions seen including itself; 0: all
  float scale;               // 1/sqrt(D)
  const float* q;            // q[i * q_stride + (h * group + g) * D + d] of kv head h, any alignment
  int64_t q_stride;          // floats
  float* out;                // out[i * out_stride + (h * group + g) * D + d], any alignment
  int64_t out_stride;        // floats
  float* scratch;            // attention_scratch_floats(T, D) floats
  Upcoming next{}, later{};  // the two heads that are read after this call's
  // The queries' own keys and values, [i * q_stride + h * D + d], any alignment, which are stored first; both null:
  // they are in the cache.
  const float *new_k = nullptr, *new_v = nullptr;
};

struct KernelTable {
  const char* name;

  // --- Weights: laid out once at load ------------------------------------------------------------------------------
  // Bytes of the buffer that holds packed weights, scales, sums and bias of an (n, k) matrix.
  size_t (*packed_bytes)(WeightType type, int64_t n, int64_t k);
  // The view of `buffer` (zeroed by the caller, kAlign-aligned, packed_bytes long) as such a matrix.
  Matrix (*matrix_view)(WeightType type, int64_t n, int64_t k, void* buffer);
  // Packs source.n rows to rows row_begin... (a multiple of 16); source.k must equal matrix.k. Calls on disjoint blocks
  // may run at once, and several sources stacked at multiples of 16 make one matrix (wq, wk, wv).
  void (*pack_rows)(const Matrix& matrix, int64_t row_begin, const MatrixSource& source);
  // out[0..k) = row `row` in float (embedding lookup from a tied head). q: float(w) * scale.
  void (*unpack_row)(const Matrix& matrix, int64_t row, float* out);

  // --- Activations: one opaque row per token, in the form that matmul wants for this weight type -------------------
  // Bytes of one row, a multiple of kAlign; the rows of a call lie row_bytes apart.
  size_t (*row_bytes)(WeightType type, int64_t k);
  // f32, bf16: a copy. q8, q4: amax = max|x|, scale = amax / 127, q = nearest-even(x * (127 / amax));
  // amax < 2^-100 gives scale 0 and zeros.
  void (*prepare_row)(WeightType type, const float* x, int64_t k, void* row);

  // --- Matmul ------------------------------------------------------------------------------------------------------
  // y[m * y_stride + n] for n in [n_begin, n_end): y is indexed by the absolute channel n.
  // n_begin is a multiple of 16; n_end too, or equals matrix.n. Calls on disjoint channel ranges may run at once.
  // f32, bf16: acc = fma(x, w, acc) from 0 over k in order.   q8: acc = (float(dot) * scale_n) * scale_m.
  // q4: acc = fma(float(dot_g), scale_ng, acc) over groups in order, then * scale_m.
  // then v = acc + bias_n;  y = accumulate ? y + v : v.  y may be unaligned; only [n_begin, n_end) is written.
  void (*matmul)(const Matrix& matrix, const void* rows, int64_t m, int64_t n_begin, int64_t n_end, float* y,
                 int64_t y_stride, bool accumulate);

  // --- Elementwise: any length, any alignment, in place allowed ----------------------------------------------------
  // Lane i sums elements i, i+16, ... with fma; lanes then fold 8, 4, 2, 1.
  void (*rmsnorm)(const float* x, const float* weight, int64_t n, float eps, float* y);
  void (*layernorm)(const float* x, const float* weight, const float* bias /* or null */, int64_t n, float eps,
                    float* y);
  // Rotates halves of the first rotary_dim elements of each of `heads` consecutive heads; cos and sin:
  // float[rotary_dim / 2].
  void (*rope)(float* x, int64_t heads, int64_t head_dim, int64_t rotary_dim, const float* cos, const float* sin);
  // y = f(x); swiglu: y = x * sigmoid(x) * up. `up` is null for the others.
  void (*activate)(Activation kind, const float* x, const float* up, int64_t n, float* y);
  void (*add)(const float* a, const float* b, int64_t n, float* y);
  void (*softcap)(float* x, int64_t n, float cap);  // cap * tanh(x / cap)

  // --- Gradients, for training: any length, any alignment ----------------------------------------------------------
  // dy: of rmsnorm's y. With r = 1 / sqrt(mean(x^2) + eps): dx = r * (weight * dy - x * r^2 * mean(weight * dy * x)),
  // and dweight += dy * x * r. dx may be x or dy.
  void (*rmsnorm_grad)(const float* x, const float* weight, const float* dy, int64_t n, float eps, float* dx,
                       float* dweight);
  // dy: of y = silu(gate) * up. dgate and dup may each be any of the inputs.
  void (*swiglu_grad)(const float* gate, const float* up, const float* dy, int64_t n, float* dgate, float* dup);

  // --- Attention over the blocked cache ----------------------------------------------------------------------------
  size_t (*kv_bytes)(KvType type, int64_t positions, int64_t head_dim, bool values);  // of kv.k (values false) or kv.v
  // k, v: [h * D + d]. Calls on different caches may run at once; calls on one may not, since neighbouring positions
  // share words.
  void (*kv_store)(const KvView& kv, int64_t position, const float* k, const float* v);
  // Copies positions 0..count of one cache to another of the same type, head size and heads (shared prefixes).
  void (*kv_copy)(const KvView& from, const KvView& to, int64_t count);
  size_t (*attention_scratch_floats)(int64_t positions, int64_t head_dim);
  // With new_k, which it stores, no other call on the cache may run at once.
  void (*attention)(const AttentionCall& call);

  // --- Sampling and scoring over V logits --------------------------------------------------------------------------
  // maxima[i] = max of x[64 i .. 64 i + 64); returns the maximum of all. -inf for n = 0.
  float (*block_max)(const float* x, int64_t n, float* maxima);
  // Of logits that come in pieces: copies to y those blocks of x[0..n) that may hold one of the 16 * levels largest of
  // all, and returns a bound: at least so many logits of this and earlier pieces reach it, or it is -inf, and every
  // block whose maximum reaches it has been copied. n: at most 16 blocks. maxima: of x, as block_max writes them. tops:
  // 16 * levels floats, -inf before the first piece. y: kAlign-aligned.
  float (*keep_likely)(const float* x, int64_t n, const float* maxima, int64_t levels, float* tops, float* y);
  // Writes the indices i (ascending) with x[i] >= threshold, at most `capacity`; returns how many there are in all.
  int64_t (*select_at_least)(const float* x, int64_t n, const float* maxima, float threshold, int32_t* indices,
                             int64_t capacity);
  // Sum over i of exp((x[i] - max) * inv_temperature), 16-lane order.
  float (*sum_exp)(const float* x, int64_t n, float max, float inv_temperature);
  // y[i] = exp((x[i] - max) * inv_temperature), same bits as inside sum_exp.
  void (*exp)(const float* x, int64_t n, float max, float inv_temperature, float* y);
};

// Tables that this build has and this machine can run, fastest first; the last is "scalar".
// Names: "avx512" (F, BW, VL, DQ, VNNI), "avxvnni", "avx2" (with FMA, F16C), "neon_dot", "neon", "scalar".
size_t available_kernels(const KernelTable** tables, size_t capacity);
// The table of that name, "auto" for the fastest; null where this build or this machine lacks it.
const KernelTable* find_kernels(const char* name);

// Same bits on every machine, no libm: cos and sin float[rotary_dim / 2] of position * theta^(-2i / rotary_dim),
// computed in double and rounded once.
void rope_table(int64_t position, int64_t rotary_dim, double theta, float* cos, float* sin);
// Natural logarithm, within 1 ulp of double.
double natural_log(double x);

}  // namespace tinylm::kernels
