// The model file's reader on arbitrary bytes: it loads or throws FormatError, within time and memory.
//
// Random byte flips die at the digest, so the mutator changes fields of the header (numbers, words, brackets) or data
// bytes, then mends the length and the digest: what is left for the reader to notice is the change itself.
#include <algorithm>
#include <cstring>
#include <random>
#include <string>

#include "engine.h"
#include "errors.h"
#include "tiny_model.h"

using namespace tinylm;

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

const char* const kNumbers[] = {"0",
                                "1",
                                "-1",
                                "2",
                                "3",
                                "16",
                                "17",
                                "255",
                                "65536",
                                "2147483647",
                                "2147483648",
                                "4294967296",
                                "9223372036854775807",
                                "18446744073709551615",
                                "1e300",
                                "0.5",
                                "null",
                                "[]",
                                "\"\"",
                                "true"};
const char* const kWords[] = {"F32",   "BF16", "I8",      "U8",         "F64",       "f32",     "bf16", "int8",
                              "int4",  "rope", "learned", "sinusoidal", "layernorm", "rmsnorm", "gelu", "swiglu",
                              "relu2", "true", "false",   "weight",     "scale",     "bias"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Replaces one run of digits, or one known word, of the header by another.
void change_field(std::string& header, std::mt19937& random) {
  if (header.empty()) return;
  size_t at = random() % header.size();
  if (random() % 4 == 0) {
    const std::string from = kWords[random() % std::size(kWords)], to = kWords[random() % std::size(kWords)];
    const size_t found = header.find(from, at);
    if (found != std::string::npos) header.replace(found, from.size(), to);
    return;
  }
  while (at < header.size() && !is_digit(header[at])) ++at;
  size_t end = at;
  while (end < header.size() && is_digit(header[end])) ++end;
  header.replace(at, end - at, kNumbers[random() % std::size(kNumbers)]);
}

std::string with_length(const std::string& header, const std::string& data) {
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i));
  return length + header + data;
}

// Claims the digest that the content has, when the content is sound enough to have one.
void mend_digest(std::string& header, const std::string& data) {
  const std::string file = with_length(header, data);
  try {
    const engine::MemorySource source(file.data(), file.size());
    const engine::ModelHeader parsed = engine::read_header(source);
    uint64_t total = parsed.metadata_sum;
    for (const auto& [name, entry] : parsed.tensors)
      total = engine::fold_sum(
          total, engine::weighted_sum(reinterpret_cast<const uint8_t*>(file.data()) + entry.offset, entry.bytes, 0),
          entry.bytes);
    char hex[32];
    std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(total));
    const size_t at = header.find("\"sum64\":\"");
    if (at != std::string::npos && at + 25 <= header.size()) header.replace(at + 9, 16, hex);
  } catch (const std::exception&) {
  }
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  std::mt19937 random(seed);
  uint64_t length = 0;
  if (size >= 8) std::memcpy(&length, data, 8);
  if (size < 10 || length > size - 8 || random() % 8 == 0) return LLVMFuzzerMutate(data, size, max_size);
  std::string header(reinterpret_cast<char*>(data) + 8, length),
      body(reinterpret_cast<char*>(data) + 8 + length, size - 8 - length);
  if (random() % 4 != 0) {
    for (unsigned i = 0; i < 1 + random() % 3; ++i) change_field(header, random);
  } else if (!body.empty()) {
    for (unsigned i = 0; i < 1 + random() % 4; ++i) body[random() % body.size()] = static_cast<char>(random());
  }
  if (random() % 2) mend_digest(header, body);
  const std::string file = with_length(header, body);
  if (file.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(data, file.data(), file.size());
  return file.size();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const kernels::KernelTable& table = *kernels::find_kernels("scalar");
  try {
    const engine::MemorySource source(data, size);
    const auto weights = engine::load_weights(source, table, 1);
    if (weights->config().vocab_size * weights->config().n_layers > 4096 || weights->config().context_length > 4096)
      return 0;
    engine::Engine engine(weights, {1, 1, 2});  // what loads must also run
    auto request = std::make_shared<engine::Request>();
    const int32_t second = weights->config().vocab_size > 1;
    request->tokens = {0, second, 0, second, 0};  // repeats, for tables of what came after
    request->tokens.resize(static_cast<size_t>(std::min<int64_t>(5, weights->config().context_length)));
    request->max_new_tokens = 3;
    engine.submit(request);
    engine.collect(0, int64_t{5} * 1000000000);
  } catch (const engine::FormatError&) {
  } catch (const engine::EngineError&) {
  }
  return 0;
}
