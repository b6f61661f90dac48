// SentencePiece BPE: merges the pair of neighbours whose union is the best-scored piece, leftmost first, until none is
// left. Field numbers: sentencepiece_model.proto. The package's rule for U+2581 in exact models is kept (see
// tinylm/tokenizer.py): it becomes three raw bytes, so that it survives.
#include <array>
#include <cmath>
#include <queue>
#include <unordered_map>

#include "protobuf.h"
#include "tokenizer.h"
#include "utf8.h"

namespace tinylm::cli {

namespace {

using engine::FormatError;

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, how a space is written inside pieces
constexpr size_t kMaxPieces = size_t{1} << 20;
constexpr uint64_t kBpe = 2;

enum class Kind : uint8_t { normal = 1, unknown, control, user, unused, byte };

struct Piece {
  std::string text;
  float score = 0;
  Kind kind = Kind::normal;
};

struct Settings {
  uint64_t model_type = 1;  // unigram, the format's default
  bool byte_fallback = false, dummy_prefix = true, collapse_spaces = true, escape_spaces = true, suffix_spaces = false;
};

[[noreturn]] void refuse(const std::string& why) { throw FormatError("tokenizer: " + why); }

Piece read_piece(std::string_view message) {
  Piece piece;
  Field field;
  for (MessageReader reader(message); reader.next(field);) {
    if (field.number == 1) piece.text = field.bytes;
    if (field.number == 2) piece.score = field.real();
    if (field.number == 3) {
      if (field.value < 1 || field.value > 6)
        refuse("a piece has type " + std::to_string(field.value) + ", expected 1 to 6");
      piece.kind = static_cast<Kind>(field.value);
    }
  }
  if (piece.text.empty() || first_invalid(piece.text) != std::string_view::npos)
    refuse("a piece is empty or not UTF-8");
  if (!std::isfinite(piece.score)) refuse("piece " + piece.text + " has no finite score");
  return piece;
}

void read_trainer(std::string_view message, Settings& settings) {
  Field field;
  for (MessageReader reader(message); reader.next(field);) {
    if (field.number == 3) settings.model_type = field.value;
    if (field.number == 24) settings.suffix_spaces = field.flag();
    if (field.number == 35) settings.byte_fallback = field.flag();
  }
}

void read_normalizer(std::string_view message, Settings& settings) {
  Field field;
  for (MessageReader reader(message); reader.next(field);) {
    if (field.number == 2 && !field.bytes.empty())
      refuse("it rewrites characters (a normalisation map), which this program does not; use the tinylm package");
    if (field.number == 3) settings.dummy_prefix = field.flag();
    if (field.number == 4) settings.collapse_spaces = field.flag();
    if (field.number == 5) settings.escape_spaces = field.flag();
  }
}

int byte_value(const std::string& piece) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  if (piece.size() != 6 || piece.compare(0, 3, "<0x") != 0 || piece[5] != '>') return -1;
  const int high = digit(piece[3]), low = digit(piece[4]);
  return high < 0 || low < 0 ? -1 : 16 * high + low;
}

class SentencePiece final : public Tokenizer {
 public:
  explicit SentencePiece(std::string_view file) {
    Field field;
    for (MessageReader reader(file); reader.next(field);) {
      if (field.number == 1) pieces_.push_back(read_piece(field.bytes));
      if (field.number == 2) read_trainer(field.bytes, settings_);
      if (field.number == 3) read_normalizer(field.bytes, settings_);
      if (pieces_.size() > kMaxPieces) refuse("more than " + std::to_string(kMaxPieces) + " pieces");
    }
    if (settings_.model_type != kBpe) refuse("only BPE models can be read here");
    if (!settings_.escape_spaces || settings_.suffix_spaces) refuse("its way with spaces cannot be read here");
    index();
    exact_ = has_bytes_ && decode(encode_plain(kProbe)) == kProbe;
  }

  Ids encode(std::string_view text) const override {
    if (!exact_ || text.find(kSpace) == std::string_view::npos) return encode_plain(text);
    Ids ids;
    while (true) {
      const size_t at = text.find(kSpace);
      const Ids part = encode_plain(text.substr(0, at));
      ids.insert(ids.end(), part.begin(), part.end());
      if (at == std::string_view::npos) return ids;
      push_bytes(kSpace, ids);
      text.remove_prefix(at + kSpace.size());
    }
  }

 private:
  // As in tinylm/tokenizer.py: whether every text survives.
  static constexpr std::string_view kProbe = "  a  \xC3\xA9\n \xEF\xAC\x81 ";

  struct Symbol {
    int64_t previous, next;  // -1: none
    std::string_view text;   // empty: merged into its left neighbour
  };
  struct Pair {
    float score;
    int64_t left, right;
    size_t size;  // of the union when queued: tells whether the pair still stands
    bool operator<(const Pair& other) const {
      return score < other.score || (score == other.score && left > other.left);
    }
  };
  using Splits = std::unordered_map<std::string_view, std::pair<std::string_view, std::string_view>>;

  void index() {
    std::vector<std::string> contributions;
    byte_ids_.fill(-1);
    for (size_t i = 0; i < pieces_.size(); ++i) {
      const Piece& piece = pieces_[i];
      const int32_t id = static_cast<int32_t>(i);
      const bool mergeable = piece.kind == Kind::normal || piece.kind == Kind::unused;
      if (piece.kind == Kind::user)
        refuse("it has user-defined symbols, which cannot be read here; use the tinylm package");
      if (!(mergeable ? ids_ : reserved_).emplace(piece.text, id).second)
        refuse("piece " + piece.text + " appears twice");
      contributions.push_back(contribution(piece, id));
    }
    if (unknown_ < 0) refuse("no piece is marked as unknown");
    has_bytes_ = false;
    for (const int32_t id : byte_ids_) has_bytes_ = has_bytes_ || id >= 0;
    for (const int32_t id : byte_ids_)
      if (settings_.byte_fallback && id < 0) refuse("byte fallback without all 256 byte pieces");
    set_token_bytes(contributions);
  }

  std::string contribution(const Piece& piece, int32_t id) {
    if (piece.kind == Kind::control) return {};
    if (piece.kind == Kind::unknown) {
      if (unknown_ >= 0) refuse("two pieces are marked as unknown");
      unknown_ = id;
      return {};
    }
    if (piece.kind == Kind::byte) {
      const int value = byte_value(piece.text);
      if (value < 0) refuse("byte piece " + piece.text + " is not of the form <0x41>");
      byte_ids_[static_cast<size_t>(value)] = id;
      return std::string(1, static_cast<char>(value));
    }
    std::string text;
    for (size_t at = 0; at < piece.text.size();) {
      const bool space = piece.text.compare(at, kSpace.size(), kSpace) == 0;
      text += space ? ' ' : piece.text[at];
      at += space ? kSpace.size() : 1;
    }
    return text;
  }

  // SentencePiece's identity normalisation: spaces become U+2581, perhaps one before the text, perhaps runs collapsed.
  std::string normalise(std::string_view text) const {
    const bool collapse = settings_.collapse_spaces;
    if (collapse) text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    std::string out;
    if (text.empty()) return out;
    if (settings_.dummy_prefix) out += kSpace;
    bool after_space = collapse;
    for (const char c : text) {
      if (c != ' ') {
        out += c;
      } else if (!after_space) {
        out += kSpace;
      }
      after_space = collapse && c == ' ';
    }
    const auto ends_with_space = [&] {
      return out.size() >= kSpace.size() && out.compare(out.size() - kSpace.size(), kSpace.size(), kSpace) == 0;
    };
    while (collapse && ends_with_space()) out.resize(out.size() - kSpace.size());
    return out;
  }

  Ids encode_plain(std::string_view text) const {
    const std::string normal = normalise(text);
    std::vector<Symbol> symbols;
    for (size_t at = 0; at < normal.size();) {
      const size_t length = std::max<size_t>(1, character_length(normal, at));
      const int64_t index = static_cast<int64_t>(symbols.size());
      symbols.push_back({index - 1, index + 1, std::string_view(normal).substr(at, length)});
      at += length;
    }
    Ids ids;
    if (symbols.empty()) return ids;
    symbols.back().next = -1;
    const Splits splits = merge(symbols);
    bool after_unknown = false;
    for (int64_t at = 0; at != -1; at = symbols[static_cast<size_t>(at)].next)
      emit(symbols[static_cast<size_t>(at)].text, splits, ids, after_unknown);
    return ids;
  }

  Splits merge(std::vector<Symbol>& symbols) const {
    std::priority_queue<Pair> queue;
    Splits splits;
    const auto consider = [&](int64_t left, int64_t right) {
      if (left < 0 || right < 0) return;
      const std::string_view first = symbols[static_cast<size_t>(left)].text,
                             second = symbols[static_cast<size_t>(right)].text;
      const std::string_view whole(first.data(), first.size() + second.size());  // neighbours lie side by side
      const auto found = ids_.find(whole);
      if (found == ids_.end()) return;
      const Piece& piece = pieces_[static_cast<size_t>(found->second)];
      queue.push({piece.score, left, right, whole.size()});
      if (piece.kind == Kind::unused) splits[whole] = {first, second};
    };
    for (size_t i = 1; i < symbols.size(); ++i) consider(static_cast<int64_t>(i) - 1, static_cast<int64_t>(i));
    while (!queue.empty()) {
      const Pair best = queue.top();
      queue.pop();
      Symbol& left = symbols[static_cast<size_t>(best.left)];
      Symbol& right = symbols[static_cast<size_t>(best.right)];
      if (left.text.empty() || right.text.empty() || left.text.size() + right.text.size() != best.size) continue;
      left.text = {left.text.data(), best.size};
      left.next = right.next;
      if (right.next >= 0) symbols[static_cast<size_t>(right.next)].previous = best.left;
      right.text = {};
      consider(left.previous, best.left);
      consider(best.left, left.next);
    }
    return splits;
  }

  // Unused pieces help merging but are not written: they fall apart again.
  void emit(std::string_view text, const Splits& splits, Ids& ids, bool& after_unknown) const {
    const auto found = ids_.find(text);
    const bool unused = found != ids_.end() && pieces_[static_cast<size_t>(found->second)].kind == Kind::unused;
    const auto split = unused ? splits.find(text) : splits.end();
    if (split != splits.end()) {
      emit(split->second.first, splits, ids, after_unknown);
      emit(split->second.second, splits, ids, after_unknown);
      return;
    }
    const bool unknown = found == ids_.end();
    if (!unknown) {
      ids.push_back(found->second);
    } else if (settings_.byte_fallback) {
      push_bytes(text, ids);
    } else if (!after_unknown) {  // a run of unknown characters is one token
      ids.push_back(unknown_);
    }
    after_unknown = unknown;
  }

  void push_bytes(std::string_view text, Ids& ids) const {
    for (const char byte : text) ids.push_back(byte_ids_[static_cast<uint8_t>(byte)]);
  }

  std::vector<Piece> pieces_;
  Settings settings_;
  std::unordered_map<std::string_view, int32_t> ids_, reserved_;  // keys point into pieces_
  std::array<int32_t, 256> byte_ids_{};
  int32_t unknown_ = -1;
  bool has_bytes_ = false, exact_ = false;
};

}  // namespace

std::unique_ptr<Tokenizer> read_sentencepiece(std::string_view file) { return std::make_unique<SentencePiece>(file); }

}  // namespace tinylm::cli
