// The command line of tinylm-cli.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "request.h"

namespace tinylm::cli {

// The command line is wrong: exit code 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Options {
  std::string model, prompt = "Once upon a time", prompts_file, out_file, isa = "auto";
  int64_t max_new_tokens = 256, samples = 1, threads = 1, replicas = 0, max_batch = 64;  // replicas 0: one per core
  engine::SamplingOptions sampling{0.8f, 40, 0.95f, 0, 1, 0, 0};
  std::vector<std::string> stop;
  bool ignore_eos = false, show_token_ids = false, help = false, version = false;
};

extern const char* const kUsage;

// Throws UsageError naming the option, what was found and what is expected.
Options parse_options(int count, const char* const* words);

}  // namespace tinylm::cli
