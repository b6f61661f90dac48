#include "lookups.h"

#include <algorithm>

namespace tinylm::engine {

namespace {

constexpr int64_t kNgramFactor = 1'000'003;

// How many tokens up to `end` equal those up to `token`, at most `most`.
int64_t equal_tokens(const int32_t* end, const int32_t* token, int64_t most) {
  int64_t equal = 0;
  while (equal < most && end[-equal] == token[-equal]) ++equal;
  return equal;
}

}  // namespace

// Zeros stand before the first token.
int64_t ngram_row(const int32_t* token, int64_t position, int64_t n, int64_t rows) {
  int64_t hash = 0;
  for (int64_t back = n - 1; back >= 0; --back)
    hash = (hash * kNgramFactor + (back <= position ? token[-back] : 0)) % rows;
  return hash;
}

LastUse last_use(const int32_t* token, int64_t position, int64_t longest) {
  LastUse use{0, 0};
  for (int64_t back = 1; back <= position && use.length < longest; ++back) {
    const int64_t equal = equal_tokens(token - back, token, std::min(longest, position - back + 1));
    if (equal > use.length) use = {equal, token[1 - back]};
  }
  return use;
}

}  // namespace tinylm::engine
