// The model file's header, read and checked: native/FORMAT.md sections 1 to 3 and 5.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "byte_source.h"
#include "config.h"

namespace tinylm::engine {

enum class DType { f32, bf16, i8, u8 };

struct TensorEntry {
  DType dtype;
  std::vector<int64_t> shape;
  uint64_t offset, bytes;  // offset from the start of the file
};

struct ModelHeader {
  Config config;
  std::string config_json, precision, tokenizer_kind, provenance, sha256;
  int64_t bos_id = -1, eos_id = -1;  // -1: the model has none
  bool add_bos = true;
  uint64_t sum64 = 0;         // expected digest of everything
  uint64_t metadata_sum = 0;  // its part over the metadata
  std::map<std::string, TensorEntry> tensors;
};

// Throws FormatError or FileError. Memory is bounded by the header's length and a limit of values in it.
ModelHeader read_header(const ByteSource& source);

// The weighted sum of section 5 over `count` bytes that start at word `first_word` of their blob.
uint64_t weighted_sum(const uint8_t* data, size_t count, uint64_t first_word);
// One step of the fold over blobs.
inline uint64_t fold_sum(uint64_t total, uint64_t blob_sum, uint64_t blob_bytes) {
  return total * 0x9E3779B97F4A7C15u + blob_sum + blob_bytes;
}

}  // namespace tinylm::engine
