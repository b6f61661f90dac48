#include "tokenizer.h"

namespace tinylm::cli {

namespace {

class PlainBytes final : public Tokenizer {
 public:
  PlainBytes() {
    std::vector<std::string> entries;
    for (int byte = 0; byte < 256; ++byte) entries.emplace_back(1, static_cast<char>(byte));
    set_token_bytes(entries);
  }
  Ids encode(std::string_view text) const override {
    Ids ids;
    for (const char byte : text) ids.push_back(static_cast<uint8_t>(byte));
    return ids;
  }
};

}  // namespace

std::string Tokenizer::decode(const Ids& ids) const {
  std::string text;
  for (const int32_t id : ids) token_bytes_->append(id, text);
  return text;
}

void Tokenizer::set_token_bytes(const std::vector<std::string>& entries) {
  auto table = std::make_shared<engine::TokenBytes>();
  table->offsets.push_back(0);
  for (const std::string& entry : entries) {
    table->bytes += entry;
    table->offsets.push_back(table->bytes.size());
  }
  token_bytes_ = std::move(table);
}

std::unique_ptr<Tokenizer> plain_bytes() { return std::make_unique<PlainBytes>(); }

}  // namespace tinylm::cli
