// UTF-8 at the program's edge: prompts must be valid, texts are repaired as Python's errors="replace" does.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tinylm::cli {

// Length in bytes of the character that starts at text[at]; 0 if the bytes there are not valid UTF-8.
size_t character_length(std::string_view text, size_t at);
// Position of the first byte that is not valid UTF-8; npos if there is none.
size_t first_invalid(std::string_view text);
// The text with every maximal invalid piece replaced by U+FFFD (Unicode 15, section 3.9).
std::string repaired(std::string_view text);
// Bytes at the end that may be the start of a character still to come.
size_t unfinished_tail(std::string_view text);

}  // namespace tinylm::cli
