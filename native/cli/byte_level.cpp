// Byte-level BPE, the kind that GPT-2 introduced, from a Hugging Face tokenizer.json: text is cut into words by GPT-2's
// pattern, a word's bytes are merged by rank. Equal to the `tokenizers` library; other kinds are refused with the
// reason.
#include <algorithm>
#include <array>
#include <map>
#include <queue>
#include <unordered_map>

#include "errors.h"
#include "json.h"
#include "tokenizer.h"
#include "unicode_ranges.inl"
#include "utf8.h"

namespace tinylm::cli {

namespace {

using engine::Json;

constexpr int64_t kMaxTokens = int64_t{1} << 20;

[[noreturn]] void refuse(const std::string& why) {
  throw engine::FormatError("tokenizer.json: " + why +
                            "; this program reads GPT-2's kind, the tinylm package others too");
}

const Json* member(const Json& object, std::string_view name) {
  const Json::Object& members = object.object("tokenizer.json");
  const auto found = members.find(name);
  return found == members.end() || found->second.type() == Json::Type::null ? nullptr : &found->second;
}

bool flag(const Json& object, std::string_view name, bool usual) {
  const Json* value = member(object, name);
  return value == nullptr ? usual : value->boolean(name);
}

std::string text_of(const Json* object, std::string_view name) {
  const Json* value = object == nullptr ? nullptr : member(*object, name);
  return value == nullptr ? std::string() : value->string(name);
}

uint32_t code_point(std::string_view text, size_t at, size_t length) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(text[at + i])); };
  uint32_t point = length == 1 ? byte(0) : byte(0) & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) point = point << 6 | (byte(i) & 0x3F);
  return point;
}

template <size_t N>
bool within(const uint32_t (&ranges)[N][2], uint32_t point) {
  const auto* found = std::upper_bound(std::begin(ranges), std::end(ranges), point,
                                       [](uint32_t p, const uint32_t (&range)[2]) { return p < range[0]; });
  return found != std::begin(ranges) && point <= (*(found - 1))[1];
}

enum class Class { letter, number, space, other, end };

struct Character {
  Class kind;
  size_t length;
};

Character character(std::string_view text, size_t at) {
  if (at >= text.size()) return {Class::end, 0};
  const size_t length = std::max<size_t>(1, character_length(text, at));
  const uint32_t point = code_point(text, at, length);
  const Class kind = within(kLetters, point)   ? Class::letter
                     : within(kNumbers, point) ? Class::number
                     : within(kSpaces, point)  ? Class::space
                                               : Class::other;
  return {kind, length};
}

// End of the word at `at` by GPT-2's pattern:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t word_end(std::string_view text, size_t at) {
  for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
    if (text.compare(at, ending.size(), ending) == 0) return at + ending.size();
  size_t end = at + (text[at] == ' ' ? 1 : 0);
  const Class kind = character(text, end).kind;
  if (kind != Class::space && kind != Class::end) {
    for (Character c = character(text, end); c.kind == kind; c = character(text, end)) end += c.length;
    return end;
  }
  size_t last = end = at;  // a run of spaces, without its last one where a word follows
  for (Character c = character(text, end); c.kind == Class::space; c = character(text, end))
    last = end, end += c.length;
  return end == text.size() || last == at ? end : last;
}

class ByteLevel final : public Tokenizer {
 public:
  explicit ByteLevel(std::string_view file) {
    const Json document = parse(file);
    const Json* model = member(document, "model");
    if (model == nullptr || text_of(model, "type") != "BPE") refuse("the model is not BPE");
    check_settings(document, *model);
    read_vocabulary(document, *model);
    read_merges(*model);
  }

  Ids encode(std::string_view text) const override {
    Ids ids;
    std::string prefixed;
    if (prefix_space_ && !text.empty() && text[0] != ' ') text = prefixed = ' ' + std::string(text);
    for (size_t at = 0; at < text.size();) {
      const size_t end = split_words_ ? word_end(text, at) : text.size();
      merge(text.substr(at, end - at), ids);
      at = end;
    }
    return ids;
  }

 private:
  struct Merge {
    int32_t rank, result;
  };
  struct Pair {
    int32_t rank;
    size_t left;
    int32_t first, second;  // when queued: tells whether the pair still stands
    bool operator<(const Pair& other) const { return rank > other.rank || (rank == other.rank && left > other.left); }
  };

  static Json parse(std::string_view file) {
    try {
      return Json::parse(file);
    } catch (const engine::FormatError& error) {
      throw engine::FormatError(std::string("tokenizer.json is damaged: ") + error.what());
    }
  }

  void check_settings(const Json& document, const Json& model) {
    if (member(document, "normalizer") != nullptr) refuse("it has a normalizer");
    const Json* before = member(document, "pre_tokenizer");
    if (before == nullptr || text_of(before, "type") != "ByteLevel") refuse("the pre-tokenizer is not ByteLevel alone");
    if (text_of(member(document, "decoder"), "type") != "ByteLevel") refuse("the decoder is not ByteLevel");
    if (flag(model, "ignore_merges", false) || flag(model, "byte_fallback", false) ||
        member(model, "dropout") != nullptr)
      refuse("it ignores merges, falls back to bytes, or drops merges at random");
    for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (!text_of(&model, name).empty()) refuse(std::string(name) + " is set");
    prefix_space_ = flag(*before, "add_prefix_space", true);
    split_words_ = flag(*before, "use_regex", true);
  }

  void read_vocabulary(const Json& document, const Json& model) {
    const Json* vocab = member(model, "vocab");
    if (vocab == nullptr) refuse("the vocabulary is missing");
    std::vector<std::string> entries;
    const auto slot = [&](int64_t id) -> std::string& {
      if (static_cast<size_t>(id) >= entries.size()) entries.resize(static_cast<size_t>(id) + 1);
      return entries[static_cast<size_t>(id)];
    };
    const std::map<std::string, char, std::less<>> alphabet = make_alphabet();
    for (const auto& [token, value] : vocab->object("vocab")) {
      const int64_t id = value.integer("vocab", 0, kMaxTokens - 1);
      ids_.emplace(token, static_cast<int32_t>(id));
      slot(id) = to_bytes(token, alphabet);
    }
    for (const auto& [spelling, byte] : alphabet) {
      const auto found = ids_.find(spelling);
      byte_ids_[static_cast<uint8_t>(byte)] = found == ids_.end() ? -1 : found->second;
    }
    if (const Json* added = member(document, "added_tokens"))
      for (const Json& entry : added->array("added_tokens")) {
        if (!flag(entry, "special", false)) refuse("it has added tokens that are not special");
        const Json* id = member(entry, "id");
        if (id == nullptr) refuse("an added token has no id");
        slot(id->integer("id", 0, kMaxTokens - 1)).clear();  // control tokens add no text
      }
    set_token_bytes(entries);
  }

  void read_merges(const Json& model) {
    const Json* merges = member(model, "merges");
    if (merges == nullptr) refuse("the merges are missing");
    int32_t rank = 0;
    for (const Json& entry : merges->array("merges")) {
      std::string left, right;
      if (entry.type() == Json::Type::string) {
        const std::string& line = entry.string("merges");
        const size_t space = line.find(' ');
        if (space == std::string::npos) refuse("a merge is not two tokens");
        left = line.substr(0, space), right = line.substr(space + 1);
      } else {
        const std::vector<Json>& pair = entry.array("merges");
        if (pair.size() != 2) refuse("a merge is not two tokens");
        left = pair[0].string("merges"), right = pair[1].string("merges");
      }
      const auto first = ids_.find(left), second = ids_.find(right), whole = ids_.find(left + right);
      if (first == ids_.end() || second == ids_.end() || whole == ids_.end()) refuse("a merge names unknown tokens");
      merges_[key(first->second, second->second)] = {rank++, whole->second};
    }
  }

  static uint64_t key(int32_t first, int32_t second) {
    return static_cast<uint64_t>(static_cast<uint32_t>(first)) << 32 | static_cast<uint32_t>(second);
  }

  // GPT-2's spelling of bytes: printable Latin-1 as itself, the others as code points from 256 on, in order.
  static std::map<std::string, char, std::less<>> make_alphabet() {
    std::map<std::string, char, std::less<>> alphabet;
    uint32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      const uint32_t point = printable ? static_cast<uint32_t>(byte) : next++;
      std::string spelling;
      if (point < 0x80) {
        spelling += static_cast<char>(point);
      } else {
        spelling += {static_cast<char>(0xC0 | point >> 6), static_cast<char>(0x80 | (point & 0x3F))};
      }
      alphabet[spelling] = static_cast<char>(byte);
    }
    return alphabet;
  }

  static std::string to_bytes(const std::string& token, const std::map<std::string, char, std::less<>>& alphabet) {
    std::string bytes;
    for (size_t at = 0; at < token.size();) {
      const size_t length = std::max<size_t>(1, character_length(token, at));
      const auto found = alphabet.find(std::string_view(token).substr(at, length));
      if (found != alphabet.end()) {
        bytes += found->second;
      } else {
        bytes.append(token, at, length);
      }
      at += length;
    }
    return bytes;
  }

  void merge(std::string_view word, Ids& ids) const {
    Ids parts;  // -1: merged into the part on its left
    for (const char byte : word)
      if (byte_ids_[static_cast<uint8_t>(byte)] >= 0) parts.push_back(byte_ids_[static_cast<uint8_t>(byte)]);
    std::vector<size_t> next(parts.size()), previous(parts.size());
    std::priority_queue<Pair> queue;
    const auto consider = [&](size_t left) {
      if (left >= parts.size() || next[left] >= parts.size()) return;
      const auto found = merges_.find(key(parts[left], parts[next[left]]));
      if (found != merges_.end()) queue.push({found->second.rank, left, parts[left], parts[next[left]]});
    };
    for (size_t i = 0; i < parts.size(); ++i) next[i] = i + 1, previous[i] = i - 1;
    for (size_t i = 0; i < parts.size(); ++i) consider(i);
    while (!queue.empty()) {
      const Pair best = queue.top();
      queue.pop();
      const size_t right = next[best.left];
      if (right >= parts.size() || parts[best.left] != best.first || parts[right] != best.second) continue;
      parts[best.left] = merges_.at(key(best.first, best.second)).result;
      parts[right] = -1;
      next[best.left] = next[right];
      if (next[right] < parts.size()) previous[next[right]] = best.left;
      consider(previous[best.left]);
      consider(best.left);
    }
    for (size_t i = 0; i < parts.size(); i = next[i]) ids.push_back(parts[i]);
  }

  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_map<uint64_t, Merge> merges_;
  std::array<int32_t, 256> byte_ids_{};
  bool prefix_space_ = false, split_words_ = true;
};

}  // namespace

std::unique_ptr<Tokenizer> read_byte_level(std::string_view file) { return std::make_unique<ByteLevel>(file); }

}  // namespace tinylm::cli
