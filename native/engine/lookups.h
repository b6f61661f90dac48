// Which rows of its lookup tables a model reads, from the tokens of a text alone (native/FORMAT.md, section 4).
// `token` points at the newest of them, `position` at its place: tokens token[-position] to token[0] are read.
#pragma once

#include <cstdint>

namespace tinylm::engine {

// The row of the n-gram that ends at `token`, of a table of `rows`.
int64_t ngram_row(const int32_t* token, int64_t position, int64_t n, int64_t rows);
struct LastUse {
  // Of the longest n-gram, at most `longest`, that ends at `token` and at an earlier place; 0: none does.
  int64_t length;
  int32_t after;  // the token that came after the last such place
};
LastUse last_use(const int32_t* token, int64_t position, int64_t longest);

}  // namespace tinylm::engine
