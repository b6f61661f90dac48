#include "json.h"

#include <cmath>
#include <cstdlib>
#include <locale>
#include <sstream>
#include <utility>

#include "errors.h"

namespace tinylm::engine {

namespace {

constexpr int kMaxDepth = 16;          // our own headers nest 3 deep
constexpr int64_t kMaxNodes = 400000;  // bounds memory: 1,024 layers need about 130,000

const char* name_of(Json::Type type) {
  switch (type) {
    case Json::Type::null: return "null";
    case Json::Type::boolean: return "a boolean";
    case Json::Type::number: return "a number";
    case Json::Type::string: return "a string";
    case Json::Type::array: return "an array";
    case Json::Type::object: return "an object";
  }
  return "?";
}

}  // namespace

class JsonParser {
 public:
  explicit JsonParser(std::string_view text) : text_(text) {}

  Json document() {
    Json value = this->value(0);
    skip_spaces();
    if (at_ != text_.size()) fail("text after the value");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw FormatError("header is not valid JSON at byte " + std::to_string(at_) + ": " + why);
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
  }

  bool take(char wanted) {
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  void take_word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) fail("unknown word");
    at_ += word.size();
  }

  // In the "C" locale whatever the process has set: strtod would read 0.25 as 0 where a comma is expected.
  double number_of(const std::string& text) const {
    std::istringstream stream(text);
    stream.imbue(std::locale::classic());
    double number = 0;
    if (!(stream >> number) || !std::isfinite(number)) fail("number out of range");
    return number;
  }

  Json value(int depth) {
    if (depth > kMaxDepth) fail("nested too deep");
    if (++nodes_ > kMaxNodes) fail("too many values");
    skip_spaces();
    Json result;
    switch (peek()) {
      case '{': object(result, depth); break;
      case '[': array(result, depth); break;
      case '"':
        result.type_ = Json::Type::string;
        result.string_ = string();
        break;
      case 't':
        take_word("true");
        result.type_ = Json::Type::boolean;
        result.boolean_ = true;
        break;
      case 'f':
        take_word("false");
        result.type_ = Json::Type::boolean;
        break;
      case 'n': take_word("null"); break;
      default: number(result);
    }
    return result;
  }

  void object(Json& result, int depth) {
    result.type_ = Json::Type::object;
    take('{');
    skip_spaces();
    if (take('}')) return;
    do {
      skip_spaces();
      if (peek() != '"') fail("expected a key");
      std::string key = string();
      skip_spaces();
      if (!take(':')) fail("expected ':'");
      Json member = value(depth + 1);
      if (!result.object_.emplace(std::move(key), std::move(member)).second) fail("a key appears twice");
      skip_spaces();
    } while (take(','));
    if (!take('}')) fail("expected ',' or '}'");
  }

  void array(Json& result, int depth) {
    result.type_ = Json::Type::array;
    take('[');
    skip_spaces();
    if (take(']')) return;
    do {
      result.array_.push_back(value(depth + 1));
      skip_spaces();
    } while (take(','));
    if (!take(']')) fail("expected ',' or ']'");
  }

  void digits() {
    if (peek() < '0' || peek() > '9') fail("expected a digit");
    while (peek() >= '0' && peek() <= '9') ++at_;
  }

  void number(Json& result) {
    const size_t start = at_;
    take('-');
    digits();
    bool whole = true;
    if (take('.')) {
      whole = false;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      whole = false;
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      digits();
    }
    if (at_ - start > 64) fail("number of more than 64 characters");
    const std::string text(text_.substr(start, at_ - start));
    result.type_ = Json::Type::number;
    // 18 digits always fit; longer ones are no size, count or offset of ours.
    result.is_integer_ = whole && text.size() <= 18;
    if (result.is_integer_) result.integer_ = std::strtoll(text.c_str(), nullptr, 10);
    result.number_ = result.is_integer_ ? static_cast<double>(result.integer_) : number_of(text);
  }

  std::string string() {
    take('"');
    std::string result;
    while (true) {
      if (at_ >= text_.size()) fail("string without end");
      const unsigned char c = static_cast<unsigned char>(text_[at_++]);
      if (c == '"') return result;
      if (c < 0x20) fail("control character in a string");
      if (c == '\\') escape(result);
      else result.push_back(static_cast<char>(c));
    }
  }

  void escape(std::string& result) {
    const char c = peek();
    ++at_;
    switch (c) {
      case '"':
      case '\\':
      case '/': result.push_back(c); return;
      case 'b': result.push_back('\b'); return;
      case 'f': result.push_back('\f'); return;
      case 'n': result.push_back('\n'); return;
      case 'r': result.push_back('\r'); return;
      case 't': result.push_back('\t'); return;
      case 'u': code_point(result); return;
      default: fail("unknown escape");
    }
  }

  uint32_t four_hex() {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = peek();
      ++at_;
      code <<= 4;
      if (c >= '0' && c <= '9') code |= static_cast<uint32_t>(c - '0');
      else if (c >= 'a' && c <= 'f') code |= static_cast<uint32_t>(c - 'a' + 10);
      else if (c >= 'A' && c <= 'F') code |= static_cast<uint32_t>(c - 'A' + 10);
      else fail("expected four hex digits");
    }
    return code;
  }

  void code_point(std::string& out) {
    uint32_t code = four_hex();
    if (code >= 0xd800 && code < 0xdc00) {
      if (!take('\\') || !take('u')) fail("half of a surrogate pair");
      const uint32_t low = four_hex();
      if (low < 0xdc00 || low > 0xdfff) fail("half of a surrogate pair");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) {
      fail("half of a surrogate pair");
    }
    const auto push = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
    if (code < 0x80) {
      push(code);
    } else if (code < 0x800) {
      push(0xc0 | code >> 6), push(0x80 | (code & 63));
    } else if (code < 0x10000) {
      push(0xe0 | code >> 12), push(0x80 | (code >> 6 & 63)), push(0x80 | (code & 63));
    } else {
      push(0xf0 | code >> 18), push(0x80 | (code >> 12 & 63)), push(0x80 | (code >> 6 & 63)), push(0x80 | (code & 63));
    }
  }

  std::string_view text_;
  size_t at_ = 0;
  int64_t nodes_ = 0;
};

Json Json::parse(std::string_view text) { return JsonParser(text).document(); }

void Json::expect(Type type, std::string_view what) const {
  if (type_ != type) throw FormatError(std::string(what) + " is " + name_of(type_) + ", expected " + name_of(type));
}

bool Json::boolean(std::string_view what) const {
  expect(Type::boolean, what);
  return boolean_;
}

double Json::number(std::string_view what) const {
  expect(Type::number, what);
  return number_;
}

int64_t Json::integer(std::string_view what, int64_t low, int64_t high) const {
  expect(Type::number, what);
  if (!is_integer_ || integer_ < low || integer_ > high)
    throw FormatError(std::string(what) + " is " + std::to_string(number_) + ", expected an integer in " +
                      std::to_string(low) + ".." + std::to_string(high));
  return integer_;
}

const std::string& Json::string(std::string_view what) const {
  expect(Type::string, what);
  return string_;
}

const std::vector<Json>& Json::array(std::string_view what) const {
  expect(Type::array, what);
  return array_;
}

const Json::Object& Json::object(std::string_view what) const {
  expect(Type::object, what);
  return object_;
}

}  // namespace tinylm::engine
