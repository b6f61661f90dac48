// A model at work for the command line: one story as it is made, or a file of prompts.
#pragma once

#include <cstdio>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>

#include "engine.h"
#include "options.h"
#include "tokenizer.h"

namespace tinylm::cli {

class Storyteller {
 public:
  explicit Storyteller(const Options& options);  // throws FormatError, FileError, EngineError

  // Writes the prompt and its continuation, flushed piece by piece, and a newline. Throws UsageError for a prompt that
  // cannot be continued.
  void tell(std::FILE* to);
  // Answers every line of `from` with one JSON line per sample, in order; returns how many could not be used.
  int64_t answer(std::FILE* from, std::FILE* to);

 private:
  struct Row {  // submitted, not yet written
    int64_t number, sample, ticket;
    uint64_t seed;
    std::string prompt, error;
  };

  std::shared_ptr<engine::Request> request(const std::string& prompt) const;
  void submit_line(std::string_view line, size_t length, int64_t number);
  void write_ready(std::FILE* to, size_t leave);
  void write_row(const Row& row, std::FILE* to);

  const Options options_;
  const std::shared_ptr<const engine::Weights> weights_;
  const std::unique_ptr<const Tokenizer> tokenizer_;
  const bool adds_prefix_space_;
  const int64_t replicas_;
  const std::unique_ptr<engine::Engine> engine_;
  std::deque<Row> rows_;
  std::unordered_map<int64_t, engine::Result> results_;  // by ticket
  int64_t bad_ = 0;
};

}  // namespace tinylm::cli
