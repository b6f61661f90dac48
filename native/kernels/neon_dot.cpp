// AArch64 with the dot product extension: sdot multiplies 16 bytes.
#include <arm_neon.h>

#include "kernels.h"

#define TINYLM_UNROLL _Pragma("GCC unroll 16")
#define TINYLM_NOINLINE __attribute__((noinline))
#define TINYLM_INLINE inline __attribute__((always_inline))

namespace tinylm::kernels {
namespace {

#include "simd_neon.inl"

constexpr int kSums = 4;
constexpr int64_t kTileRows = 6, kTileBlocks = 1;  // 24 sums, 4 weights, 1 activation of 32 registers
constexpr int64_t kFloatTileRows = 6, kFloatTileBlocks = 1, kFloatPairBlocks = 2, kFloatSingleBlocks = 4;

constexpr int kScoreBlocks = 4, kMixSums = 4, kTileSums = 4, kWeighTogether = 1;

#include "generic.inl"
#include "attention.inl"
#include "quads.inl"
#include "layout.inl"
#include "matmul_float.inl"
#include "matmul_tiles.inl"
#include "matmul_dot.inl"
#include "table.inl"

}  // namespace

extern const KernelTable kNeonDotTable = make_table("neon_dot");

}  // namespace tinylm::kernels
