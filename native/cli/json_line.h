// One JSON object on one line, built field by field.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tinylm::cli {

class JsonLine {
 public:
  JsonLine& add(std::string_view name, std::string_view text) {
    begin(name);
    quote(text);
    return *this;
  }
  JsonLine& add(std::string_view name, int64_t number) {
    begin(name);
    line_ += std::to_string(number);
    return *this;
  }
  JsonLine& add(std::string_view name, const std::vector<int32_t>& numbers) {
    begin(name);
    line_ += '[';
    for (size_t i = 0; i < numbers.size(); ++i) line_ += (i > 0 ? ", " : "") + std::to_string(numbers[i]);
    line_ += ']';
    return *this;
  }
  std::string str() const { return line_ + "}\n"; }

 private:
  void begin(std::string_view name) {
    line_ += line_.empty() ? "{" : ", ";
    quote(name);
    line_ += ": ";
  }
  void quote(std::string_view text) {
    constexpr char kHex[] = "0123456789abcdef";
    line_ += '"';
    for (const char c : text) {
      if (c == '"' || c == '\\') {
        line_ += {'\\', c};
      } else if (c == '\n') {
        line_ += "\\n";
      } else if (static_cast<uint8_t>(c) < 0x20) {
        line_ += {'\\', 'u', '0', '0', kHex[c >> 4], kHex[c & 15]};
      } else {
        line_ += c;
      }
    }
    line_ += '"';
  }

  std::string line_;
};

}  // namespace tinylm::cli
