#include "model_file.h"

#include <algorithm>
#include <cstring>

#include "errors.h"
#include "json.h"

namespace tinylm::engine {

namespace {

constexpr uint64_t kMaxHeaderBytes = 100000000;  // FORMAT.md, section 1
constexpr int64_t kMaxTokens = 1 << 20;
constexpr const char* kVersion = "1";

struct TypeName {
  const char* name;
  DType dtype;
  uint64_t bytes;
};
constexpr TypeName kTypes[] = {
    {"F32", DType::f32, 4}, {"BF16", DType::bf16, 2}, {"I8", DType::i8, 1}, {"U8", DType::u8, 1}};

std::string read_text(const ByteSource& source) {
  uint8_t prefix[8];
  if (source.size() < sizeof(prefix) + 2) throw FormatError("the file is too short for a model");
  source.read(0, prefix, sizeof(prefix));
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | prefix[i];
  if (length < 2 || length > kMaxHeaderBytes || length > source.size() - sizeof(prefix))
    throw FormatError("header of " + std::to_string(length) + " bytes in a file of " + std::to_string(source.size()) +
                      "; the file is truncated, or of another tool: try `tinylm import`");
  std::string text(length, '\0');
  source.read(sizeof(prefix), text.data(), text.size());
  if (text.front() != '{') throw FormatError("header does not start with '{'; not a TinyLM model");
  return text;
}

TensorEntry parse_entry(const std::string& name, const Json& json, uint64_t data_start) {
  const auto& fields = json.object("tensor " + name);
  const auto field = [&](const char* key) -> const Json& {
    const auto found = fields.find(key);
    if (found == fields.end()) throw FormatError("tensor " + name + " has no " + key);
    return found->second;
  };
  if (fields.size() != 3) throw FormatError("tensor " + name + " has unknown fields");
  const std::string& dtype = field("dtype").string("dtype of " + name);
  const auto type =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeName& t) { return dtype == t.name; });
  if (type == std::end(kTypes))
    throw FormatError("tensor " + name + " has type " + dtype.substr(0, 16) + ", which no model uses");

  TensorEntry entry{type->dtype, {}, 0, type->bytes};
  for (const Json& extent : field("shape").array("shape of " + name)) {
    entry.shape.push_back(extent.integer("shape of " + name, 0, int64_t{1} << 40));
    if (__builtin_mul_overflow(entry.bytes, static_cast<uint64_t>(entry.shape.back()), &entry.bytes))
      throw FormatError("tensor " + name + " has a shape beyond 64 bits");
  }
  const auto& offsets = field("data_offsets").array("data_offsets of " + name);
  if (offsets.size() != 2) throw FormatError("tensor " + name + " needs two data_offsets");
  const int64_t begin = offsets[0].integer("data_offsets of " + name, 0, int64_t{1} << 50);
  const int64_t end = offsets[1].integer("data_offsets of " + name, begin, int64_t{1} << 50);
  if (static_cast<uint64_t>(end - begin) != entry.bytes)
    throw FormatError("tensor " + name + " covers " + std::to_string(end - begin) + " bytes, its shape needs " +
                      std::to_string(entry.bytes));
  entry.offset = data_start + static_cast<uint64_t>(begin);
  return entry;
}

// No hole, no overlap, nothing after the last tensor.
void check_layout(const ModelHeader& header, uint64_t data_start, uint64_t file_size) {
  std::vector<const TensorEntry*> order;
  for (const auto& [name, entry] : header.tensors) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const TensorEntry* a, const TensorEntry* b) {
    return a->offset != b->offset ? a->offset < b->offset : a->bytes < b->bytes;
  });
  uint64_t at = data_start;
  for (const TensorEntry* entry : order) {
    if (entry->offset != at) throw FormatError("tensors overlap or leave holes in the file");
    at += entry->bytes;
  }
  if (at != file_size)
    throw FormatError("tensors end at byte " + std::to_string(at) + " of a file of " + std::to_string(file_size) +
                      "; it is truncated or has something appended");
}

class Metadata {
 public:
  explicit Metadata(const Json::Object& object) : object_(object) {}

  const std::string& take(const char* key) {
    const auto found = object_.find(key);
    if (found == object_.end()) throw FormatError("metadata key " + std::string(key) + " is missing");
    ++taken_;
    return found->second.string(key);
  }

  std::string one_of(const char* key, std::initializer_list<const char*> allowed) {
    const std::string& found = take(key);
    for (const char* text : allowed)
      if (found == text) return found;
    throw FormatError("metadata key " + std::string(key) + " is '" + found.substr(0, 40) +
                      "', which this engine does not know");
  }

  int64_t token(const char* key, int64_t vocab_size) {
    const std::string& text = take(key);
    if (text.empty()) return -1;
    const bool digits = text.size() < 8 && text.find_first_not_of("0123456789") == std::string::npos;
    const int64_t id = digits ? std::stoll(text) : kMaxTokens;
    if (id >= vocab_size)
      throw FormatError("metadata key " + std::string(key) + " is '" + text.substr(0, 40) + "', expected a token id");
    return id;
  }

  uint64_t hex64(const char* key) {
    const std::string& text = take(key);
    if (text.size() != 16 || text.find_first_not_of("0123456789abcdef") != std::string::npos)
      throw FormatError("metadata key " + std::string(key) + " is not 16 hex digits");
    return std::stoull(text, nullptr, 16);
  }

  uint64_t sum() const {
    uint64_t total = 0;
    for (const auto& [key, value] : object_) {
      if (key == "sum64" || key == "sha256") continue;
      const std::string& text = value.string(key);
      total = fold_sum(total, weighted_sum(reinterpret_cast<const uint8_t*>(text.data()), text.size(), 0), text.size());
    }
    return total;
  }

  void finish() const {
    if (taken_ != object_.size()) throw FormatError("metadata has keys that this engine does not know");
  }

 private:
  const Json::Object& object_;
  size_t taken_ = 0;
};

void parse_metadata(const Json::Object& object, ModelHeader& header) {
  Metadata metadata(object);
  const auto format = object.find("format");
  if (format == object.end() || format->second.string("format") != "tinylm")
    throw FormatError("no TinyLM metadata; use `tinylm import` for files of other tools");
  metadata.take("format");
  const std::string& version = metadata.take("format_version");
  if (version != kVersion)
    throw FormatError("format version " + version.substr(0, 20) + ", this TinyLM reads " + kVersion +
                      "; export the model again");
  header.config_json = metadata.take("config");
  header.config = parse_config(header.config_json);
  header.precision = metadata.one_of("precision", {"f32", "bf16", "int8", "int4"});
  header.tokenizer_kind = metadata.one_of("tokenizer_kind", {"sentencepiece", "hf", "bytes"});
  header.bos_id = metadata.token("bos_id", header.config.vocab_size);
  header.eos_id = metadata.token("eos_id", header.config.vocab_size);
  header.add_bos = metadata.one_of("add_bos", {"true", "false"}) == "true";
  header.provenance = metadata.take("provenance");
  header.sha256 = metadata.take("sha256");
  header.sum64 = metadata.hex64("sum64");
  metadata.finish();
  header.metadata_sum = metadata.sum();
}

}  // namespace

ModelHeader read_header(const ByteSource& source) {
  const std::string text = read_text(source);
  const uint64_t data_start = 8 + text.size();
  const Json document = Json::parse(text);
  ModelHeader header;
  bool found = false;
  for (const auto& [name, value] : document.object("header")) {
    if (name == "__metadata__") {
      parse_metadata(value.object("metadata"), header);
      found = true;
    } else {
      header.tensors.emplace(name, parse_entry(name, value, data_start));
    }
  }
  if (!found) throw FormatError("no TinyLM metadata; use `tinylm import` for files of other tools");
  check_layout(header, data_start, source.size());
  return header;
}

uint64_t weighted_sum(const uint8_t* data, size_t count, uint64_t first_word) {
  uint64_t total = 0, weight = 2 * first_word + 1, word;
  size_t at = 0;
  for (; at + 8 <= count; at += 8, weight += 2) {
    std::memcpy(&word, data + at, 8);
    total += word * weight;
  }
  if (at < count) {
    word = 0;
    std::memcpy(&word, data + at, count - at);
    total += word * weight;
  }
  return total;
}

}  // namespace tinylm::engine
