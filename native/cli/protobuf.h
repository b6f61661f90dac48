// The wire format of protocol buffers, read with every length checked: enough for SentencePiece's .model files.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "errors.h"

namespace tinylm::cli {

struct Field {
  uint32_t number = 0;
  uint64_t value = 0;      // varints, and the bits of fixed-width fields
  std::string_view bytes;  // of length-delimited fields

  bool flag() const { return value != 0; }
  float real() const {
    const uint32_t bits = static_cast<uint32_t>(value);
    float number_read;
    std::memcpy(&number_read, &bits, sizeof(bits));
    return number_read;
  }
};

// Iterates over the fields of one message: `while (reader.next(field))`.
class MessageReader {
 public:
  explicit MessageReader(std::string_view message) : message_(message) {}

  bool next(Field& field) {
    if (at_ == message_.size()) return false;
    const uint64_t tag = varint();
    if (tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) fail("field number out of range");
    field = Field{};
    field.number = static_cast<uint32_t>(tag >> 3);
    switch (tag & 7) {
      case 0: field.value = varint(); break;
      case 1: field.value = fixed(8); break;
      case 2: field.bytes = take(varint()); break;
      case 5: field.value = fixed(4); break;
      default: fail("unknown wire type");
    }
    return true;
  }

 private:
  [[noreturn]] void fail(const char* why) const {
    throw engine::FormatError("tokenizer: " + std::string(why) + " at byte " + std::to_string(at_) +
                              "; the file is damaged");
  }

  std::string_view take(uint64_t count) {
    if (count > message_.size() - at_) fail("a field passes the end");
    const std::string_view part = message_.substr(at_, static_cast<size_t>(count));
    at_ += static_cast<size_t>(count);
    return part;
  }

  uint64_t fixed(size_t count) {
    const std::string_view part = take(count);
    uint64_t value = 0;
    for (size_t i = 0; i < count; ++i) value |= uint64_t{static_cast<uint8_t>(part[i])} << (8 * i);
    return value;
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (at_ == message_.size()) break;
      const uint8_t byte = static_cast<uint8_t>(message_[at_++]);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    fail("a number is cut off or too long");
  }

  std::string_view message_;
  size_t at_ = 0;
};

}  // namespace tinylm::cli
