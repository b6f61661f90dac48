#include "options.h"

#include <cmath>
#include <cstdlib>
#include <functional>
#include <map>

#include "utf8.h"

namespace tinylm::cli {

const char* const kUsage =
    "tinylm-cli: stories from a TinyLM model file, without Python\n"
    "\n"
    "  tinylm-cli MODEL [PROMPT] [TOKENS] [options]            one story, written as it is made\n"
    "  tinylm-cli MODEL --prompts FILE [--out FILE] [options]  one JSON line for every line of FILE ('-': standard "
    "input)\n"
    "\n"
    "  --max-new-tokens N      tokens at most (default 256; TOKENS means the same)\n"
    "  --temperature T         0 is greedy (0.8)\n"
    "  --top-k K               keep the K likeliest tokens; 0 is off (40)\n"
    "  --top-p P               keep the likeliest mass P; 1 is off (0.95)\n"
    "  --min-p P               drop tokens below P times the best; 0 is off (0)\n"
    "  --repetition-penalty R  1 is off (1)\n"
    "  --stop TEXT             end before TEXT; repeatable\n"
    "  --ignore-eos            go on past the end-of-story token\n"
    "  --seed N                the random stream; row R of a file gets a seed of its own from N and R (0)\n"
    "  --samples N             stories for each prompt of a file (1)\n"
    "  --token-ids             write the token ids of each prompt of a file, BOS excepted\n"
    "  --threads N             threads for one story, or for each replica (1)\n"
    "  --replicas N            independent batches, for a file of prompts (one per core)\n"
    "  --max-batch N           stories that a replica works on at once (64)\n"
    "  --isa NAME              instruction set, as `tinylm doctor` lists them (the fastest)\n"
    "  --help, --version\n"
    "\n"
    "Exit codes: 0 done; 1 the work failed; 2 bad usage or input.\n";

namespace {

int64_t to_integer(const std::string& name, const std::string& word, int64_t low, int64_t high) {
  char* end = nullptr;
  errno = 0;
  const long long value = std::strtoll(word.c_str(), &end, 10);
  if (word.empty() || *end != '\0' || errno != 0 || value < low || value > high)
    throw UsageError(name + ": expected a whole number from " + std::to_string(low) + " to " + std::to_string(high) +
                     "; found '" + word + "'");
  return value;
}

// The package reads numbers as doubles and hands the engine floats: so does this.
float to_real(const std::string& name, const std::string& word, double low, double high, const char* range) {
  char* end = nullptr;
  const double value = std::strtod(word.c_str(), &end);
  if (word.empty() || *end != '\0' || !std::isfinite(value) || value < low || value > high)
    throw UsageError(name + ": expected a number " + range + "; found '" + word + "'");
  return static_cast<float>(value);
}

using Setter = std::function<void(const std::string& name, const std::string& word)>;

std::map<std::string, Setter> setters(Options& o) {
  const auto integer = [](int64_t& to, int64_t low, int64_t high) -> Setter {
    return
        [&to, low, high](const std::string& name, const std::string& word) { to = to_integer(name, word, low, high); };
  };
  const auto real = [](float& to, double low, double high, const char* range) -> Setter {
    return [&to, low, high, range](const std::string& name, const std::string& word) {
      to = to_real(name, word, low, high, range);
    };
  };
  const auto text = [](std::string& to) -> Setter {
    return [&to](const std::string&, const std::string& word) { to = word; };
  };
  constexpr double kTiny = 1e-30;
  constexpr int64_t kMost = int64_t{1} << 31;
  return {
      {"--max-new-tokens", integer(o.max_new_tokens, 0, kMost)},
      {"--temperature", real(o.sampling.temperature, 0, 100, "from 0 to 100")},
      {"--top-k", integer(o.sampling.top_k, 0, kMost)},
      {"--top-p", real(o.sampling.top_p, kTiny, 1, "above 0, at most 1")},
      {"--min-p", real(o.sampling.min_p, 0, 1 - 1e-9, "from 0, below 1")},
      {"--repetition-penalty", real(o.sampling.repetition_penalty, kTiny, 100, "above 0, at most 100")},
      {"--seed",
       [&o](const std::string& name, const std::string& word) {
         o.sampling.seed = static_cast<uint64_t>(to_integer(name, word, 0, INT64_MAX));
       }},
      {"--stop", [&o](const std::string&, const std::string& word) { o.stop.push_back(word); }},
      {"--samples", integer(o.samples, 1, 1000000)},
      {"--threads", integer(o.threads, 1, 1024)},
      {"--replicas", integer(o.replicas, 1, 1024)},
      {"--max-batch", integer(o.max_batch, 1, 4096)},
      {"--isa", text(o.isa)},
      {"--prompts", text(o.prompts_file)},
      {"--out", text(o.out_file)},
  };
}

bool* flag_named(Options& o, const std::string& word) {
  if (word == "--help") return &o.help;
  if (word == "--version") return &o.version;
  if (word == "--ignore-eos") return &o.ignore_eos;
  return word == "--token-ids" ? &o.show_token_ids : nullptr;
}

void take_positional(Options& o, int position, const std::string& word) {
  if (position == 0) {
    o.model = word;
  } else if (position == 1) {
    o.prompt = word;
  } else if (position == 2) {
    o.max_new_tokens = to_integer("TOKENS", word, 0, int64_t{1} << 31);
  } else {
    throw UsageError("one word too many: '" + word + "'; put the prompt in quotes");
  }
}

}  // namespace

Options parse_options(int count, const char* const* words) {
  Options o;
  const std::map<std::string, Setter> known = setters(o);
  int positional = 0;
  bool only_words = false;  // after "--"
  for (int i = 1; i < count; ++i) {
    std::string word = words[i];
    const bool option = !only_words && word.size() > 2 && word.compare(0, 2, "--") == 0;
    if (!only_words && word == "--") {
      only_words = true;
    } else if (!option) {
      take_positional(o, positional++, word);
    } else if (bool* flag = flag_named(o, word)) {
      *flag = true;
    } else {
      const size_t equals = word.find('=');
      const std::string name = word.substr(0, equals);
      const auto setter = known.find(name);
      if (setter == known.end()) throw UsageError(name + ": no such option; see --help");
      if (equals == std::string::npos && i + 1 == count) throw UsageError(name + ": a value is missing");
      setter->second(name, equals == std::string::npos ? words[++i] : word.substr(equals + 1));
    }
  }
  if (o.help || o.version) return o;
  if (o.model.empty()) throw UsageError("MODEL is missing: name a model file; see --help");
  if (!o.prompts_file.empty() && positional > 1) throw UsageError("give either PROMPT or --prompts, not both");
  if (o.prompts_file.empty() && (o.samples > 1 || !o.out_file.empty()))
    throw UsageError("--samples and --out need --prompts");
  for (const std::string& text : o.stop)
    if (first_invalid(text) != std::string::npos) throw UsageError("--stop: not UTF-8");
  if (first_invalid(o.prompt) != std::string::npos) throw UsageError("PROMPT: not UTF-8");
  return o;
}

}  // namespace tinylm::cli
