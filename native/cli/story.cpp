#include "story.h"

#include <algorithm>
#include <thread>

#include "errors.h"
#include "json_line.h"
#include "utf8.h"

namespace tinylm::cli {

namespace {

constexpr int64_t kWaitNs = 100'000'000;
constexpr int kLoadThreads = 8;
constexpr size_t kMaxLineBytes = size_t{4} << 20;  // as the package's max_row_bytes
constexpr size_t kExcerptBytes = 200;

std::shared_ptr<const engine::Weights> load(const Options& options) {
  const kernels::KernelTable* table = kernels::find_kernels(options.isa.c_str());
  if (table == nullptr) throw UsageError("--isa: '" + options.isa + "' is not in this build or not on this machine");
  const int threads = std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kLoadThreads);
  try {
    return engine::load_weights(engine::FileSource(options.model), *table, threads);
  } catch (const engine::FileError& error) {
    throw engine::FileError(options.model + ": " + error.what());
  } catch (const engine::FormatError& error) {
    throw engine::FormatError(options.model + ": " + error.what());
  }
}

std::unique_ptr<const Tokenizer> open_tokenizer(const engine::Weights& weights) {
  const std::string& kind = weights.header.tokenizer_kind;
  if (kind == "sentencepiece") return read_sentencepiece(weights.tokenizer);
  if (kind == "hf") return read_byte_level(weights.tokenizer);
  return plain_bytes();
}

int64_t cores() { return std::max<int64_t>(1, std::thread::hardware_concurrency()); }

const char* name_of(engine::Finish finish) {
  switch (finish) {
    case engine::Finish::stop: return "stop";
    case engine::Finish::length: return "length";
    case engine::Finish::context_full: return "context_full";
    case engine::Finish::invalid_input: return "invalid_input";
    case engine::Finish::cancelled: return "cancelled";
  }
  return "?";
}

// The seed of one row, as tinylm/stories/seeds.py defines it for ever.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}
uint64_t row_seed(uint64_t seed, int64_t row) {
  return mix(mix(seed) + 0x9E3779B97F4A7C15u * (static_cast<uint64_t>(row) + 1)) >> 1;
}

// \n, \t and \\ as in the package's .txt files.
std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char next = text[i] == '\\' && i + 1 < text.size() ? text[i + 1] : '\0';
    if (next != 'n' && next != 't' && next != '\\') {
      out += text[i];
      continue;
    }
    out += next == 'n' ? '\n' : next == 't' ? '\t' : '\\';
    ++i;
  }
  return out;
}

// What makes a line unusable; empty for a good one.
std::string complaint(std::string_view line) {
  const size_t bad = first_invalid(line);
  if (bad != std::string_view::npos) return "not UTF-8 at byte " + std::to_string(bad + 1) + " of the line";
  if (line.find_first_not_of(" \t\v\f\r") == std::string_view::npos) return "empty line";
  if (line.find('\0') != std::string_view::npos) return "prompt holds a NUL character";
  return {};
}

// The next line without its newline and its whole length; what passes kMaxLineBytes is dropped. False at the end.
bool read_line(std::FILE* from, std::string& line, size_t& length) {
  line.clear();
  length = 0;
  int c;
  while ((c = std::getc(from)) != EOF && c != '\n')
    if (length++ < kMaxLineBytes) line += static_cast<char>(c);
  return c != EOF || length > 0;
}

void put(const std::string& text, std::FILE* to) {
  if (std::fwrite(text.data(), 1, text.size(), to) != text.size())
    throw engine::FileError("the output cannot be written");
}

}  // namespace

Storyteller::Storyteller(const Options& options)
    : options_(options),
      weights_(load(options)),
      tokenizer_(open_tokenizer(*weights_)),
      adds_prefix_space_(tokenizer_->adds_prefix_space()),
      replicas_(options.prompts_file.empty() ? 1
                : options.replicas > 0       ? options.replicas
                                             : cores()),
      engine_(std::make_unique<engine::Engine>(
          weights_,
          engine::EngineOptions{replicas_, options.threads, options.prompts_file.empty() ? 1 : options.max_batch})) {
  engine_->set_token_bytes(tokenizer_->token_bytes());
}

std::shared_ptr<engine::Request> Storyteller::request(const std::string& prompt) const {
  auto made = std::make_shared<engine::Request>();
  made->tokens = tokenizer_->encode(prompt);
  const engine::ModelHeader& header = weights_->header;
  if (header.bos_id >= 0 && (header.add_bos || made->tokens.empty()))
    made->tokens.insert(made->tokens.begin(), static_cast<int32_t>(header.bos_id));
  made->max_new_tokens = options_.max_new_tokens;
  made->sampling = options_.sampling;
  for (const std::string& text : options_.stop)
    if (!text.empty()) made->stop.push_back(text);
  made->ignore_eos = options_.ignore_eos;
  made->trim_space = prompt.empty() && adds_prefix_space_;
  return made;
}

void Storyteller::tell(std::FILE* to) {
  auto asked = request(options_.prompt);
  asked->stream = true;
  engine_->submit(std::move(asked));
  std::string held;  // a character that is not complete yet
  size_t sent = 0;
  bool begun = false;
  for (bool over = false; !over;) {
    for (const engine::Result& result : engine_->collect(0, kWaitNs)) {
      if (!result.error.empty()) throw UsageError(result.error);
      if (!begun) put(options_.prompt, to);
      begun = true;
      over = !result.partial;
      const std::string piece = result.partial ? result.text : result.text.substr(std::min(sent, result.text.size()));
      sent += piece.size();
      held += piece;
      const size_t whole = held.size() - (over ? 0 : unfinished_tail(held));
      put(repaired(std::string_view(held).substr(0, whole)), to);
      held.erase(0, whole);
      std::fflush(to);
    }
  }
  put("\n", to);
}

int64_t Storyteller::answer(std::FILE* from, std::FILE* to) {
  const size_t ahead = static_cast<size_t>(4 * replicas_ * options_.max_batch + 16);
  std::string line;
  size_t length;
  for (int64_t number = 0; read_line(from, line, length); ++number) {
    submit_line(line, length, number);
    write_ready(to, ahead);
  }
  if (std::ferror(from)) throw engine::FileError("the prompts cannot be read to the end");
  write_ready(to, 0);
  return bad_;
}

void Storyteller::submit_line(std::string_view line, size_t length, int64_t number) {
  if (line.substr(0, 3) == "\xEF\xBB\xBF") line.remove_prefix(3);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  const std::string error =
      length > kMaxLineBytes ? "line of " + std::to_string(length) + " bytes; at most " + std::to_string(kMaxLineBytes)
                             : complaint(line);
  const std::string prompt = error.empty() ? unescaped(line) : repaired(line.substr(0, kExcerptBytes));
  const uint64_t seed = row_seed(options_.sampling.seed, number);
  for (int64_t sample = 0; sample < options_.samples; ++sample) {
    Row row{number, sample, 0, seed, prompt, error};
    if (error.empty()) {
      auto asked = request(prompt);
      asked->sampling.seed = seed;
      asked->sampling.sample = static_cast<uint64_t>(sample);
      row.ticket = engine_->submit(std::move(asked));
    }
    rows_.push_back(std::move(row));
  }
}

// Writes finished rows in order; waits while more than `leave` rows are under way.
void Storyteller::write_ready(std::FILE* to, size_t leave) {
  while (!rows_.empty()) {
    const Row& next = rows_.front();
    if (next.error.empty() && results_.count(next.ticket) == 0) {
      std::vector<engine::Result> done = engine_->collect(0, rows_.size() > leave ? kWaitNs : 0);
      if (done.empty() && rows_.size() <= leave) return;
      for (engine::Result& result : done) results_.emplace(result.ticket, std::move(result));
      continue;
    }
    write_row(next, to);
    results_.erase(next.ticket);
    rows_.pop_front();
  }
}

void Storyteller::write_row(const Row& row, std::FILE* to) {
  static const engine::Result kNone;
  const engine::Result& result = row.error.empty() ? results_.at(row.ticket) : kNone;
  const std::string error = row.error.empty() ? result.error : row.error;
  JsonLine line;
  line.add("row", row.number).add("sample", row.sample).add("prompt", row.prompt).add("text", repaired(result.text));
  line.add("finish_reason", error.empty() ? name_of(result.finish) : "invalid_input");
  line.add("prompt_tokens", result.prompt_tokens).add("output_tokens", static_cast<int64_t>(result.tokens.size()));
  line.add("seed", static_cast<int64_t>(row.seed));
  if (options_.show_token_ids) line.add("prompt_token_ids", tokenizer_->encode(row.prompt));
  if (!error.empty()) line.add("error", error);
  bad_ += error.empty() ? 0 : 1;
  put(line.str(), to);
}

}  // namespace tinylm::cli
