// A JSON reader for untrusted headers: bounded depth and node count, no duplicate keys, nothing after the value.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tinylm::engine {

class Json {
 public:
  enum class Type { null, boolean, number, string, array, object };
  using Object = std::map<std::string, Json, std::less<>>;

  // Returns the value that the whole of `text` holds. Throws FormatError.
  static Json parse(std::string_view text);

  Type type() const { return type_; }
  // Each throws FormatError naming `what` when the value is of another type or out of range.
  bool boolean(std::string_view what) const;
  double number(std::string_view what) const;
  int64_t integer(std::string_view what, int64_t low, int64_t high) const;
  const std::string& string(std::string_view what) const;
  const std::vector<Json>& array(std::string_view what) const;
  const Object& object(std::string_view what) const;

 private:
  friend class JsonParser;
  void expect(Type type, std::string_view what) const;

  Type type_ = Type::null;
  bool boolean_ = false;
  bool is_integer_ = false;
  int64_t integer_ = 0;
  double number_ = 0;
  std::string string_;
  std::vector<Json> array_;
  Object object_;
};

}  // namespace tinylm::engine
