#include "utf8.h"

#include <algorithm>
#include <cstdint>

namespace tinylm::cli {

namespace {

struct Lead {
  size_t length;      // of the whole character; 0: not a lead byte
  uint8_t low, high;  // what the second byte may be (no overlong forms, no surrogates, nothing past U+10FFFF)
};

Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte < 0xF0)
    return {3, static_cast<uint8_t>(byte == 0xE0 ? 0xA0 : 0x80), static_cast<uint8_t>(byte == 0xED ? 0x9F : 0xBF)};
  if (byte < 0xF5)
    return {4, static_cast<uint8_t>(byte == 0xF0 ? 0x90 : 0x80), static_cast<uint8_t>(byte == 0xF4 ? 0x8F : 0xBF)};
  return {0, 0, 0};
}

// How many bytes from `at` follow the pattern of one character, and how long that character is.
struct Match {
  size_t found, length;
};

Match match(std::string_view text, size_t at) {
  const Lead lead = lead_of(static_cast<uint8_t>(text[at]));
  if (lead.length == 0) return {1, 0};
  size_t found = 1;
  for (; found < lead.length && at + found < text.size(); ++found) {
    const uint8_t byte = static_cast<uint8_t>(text[at + found]);
    if (byte < (found == 1 ? lead.low : 0x80) || byte > (found == 1 ? lead.high : 0xBF)) break;
  }
  return {found, lead.length};
}

}  // namespace

size_t character_length(std::string_view text, size_t at) {
  const Match m = match(text, at);
  return m.found == m.length ? m.length : 0;
}

size_t first_invalid(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = character_length(text, at);
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

std::string repaired(std::string_view text) {
  std::string fixed;
  fixed.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Match m = match(text, at);
    if (m.found == m.length) {
      fixed.append(text, at, m.length);
    } else {
      fixed += "\xEF\xBF\xBD";
    }
    at += m.found;
  }
  return fixed;
}

size_t unfinished_tail(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const size_t at = text.size() - back;
    const Match m = match(text, at);
    if (m.length > back && m.found == back) return back;
    if (m.length != 0) return 0;
  }
  return 0;
}

}  // namespace tinylm::cli
