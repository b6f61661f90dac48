// Text to token ids without Python; the ids are those of the Python package on every text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "request.h"

namespace tinylm::cli {

using Ids = std::vector<int32_t>;

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // `text` is valid UTF-8. No BOS or EOS is added.
  virtual Ids encode(std::string_view text) const = 0;
  // The bytes that each token adds to a text.
  const std::shared_ptr<const engine::TokenBytes>& token_bytes() const { return token_bytes_; }
  std::string decode(const Ids& ids) const;
  // Whether every text is encoded with a space before it.
  bool adds_prefix_space() const { return decode(encode("a")) == " a"; }

 protected:
  void set_token_bytes(const std::vector<std::string>& entries);

 private:
  std::shared_ptr<const engine::TokenBytes> token_bytes_;
};

// A SentencePiece BPE .model file. Throws FormatError if it is damaged or does what this reader does not.
std::unique_ptr<Tokenizer> read_sentencepiece(std::string_view file);
// A byte-level BPE tokenizer.json (GPT-2 and its kin). Throws FormatError likewise.
std::unique_ptr<Tokenizer> read_byte_level(std::string_view file);
// For models without a tokenizer: ids below 256 are bytes.
std::unique_ptr<Tokenizer> plain_bytes();

}  // namespace tinylm::cli
