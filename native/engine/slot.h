// One place in a replica's batch: a request under way and what the key/value cache holds for it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "request.h"

namespace tinylm::engine {

class Slot {
 public:
  // Takes a request whose first `cached` tokens are already in this slot's cache.
  void begin(std::shared_ptr<Request> request, int64_t cached, int64_t now_ns);
  bool busy() const { return request_ != nullptr; }
  const Request& request() const { return *request_; }

  // Tokens of the prompt and of the text so far; the first cached() of them are in the cache. Kept after the end, so
  // that a later request with the same beginning can reuse them.
  const std::vector<int32_t>& tokens() const { return tokens_; }
  int64_t cached() const { return cached_; }
  int64_t pending() const { return static_cast<int64_t>(tokens_.size()) - cached_; }
  void advance(int64_t count) { cached_ += count; }
  const std::vector<int32_t>& seen() const { return seen_; }

  // Adds a sampled token; returns whether the request is finished. `eos` -1: none.
  bool accept(int32_t token, int64_t eos, int64_t context_length, int64_t now_ns);
  // The next piece of a streamed text that no stop string can take back; empty if none.
  std::string take_stream();
  // Ends the request and returns its result.
  Result finish(Finish reason, int64_t now_ns);
  Result& result() { return result_; }

  // Waits until slot `donor` has cached `count` tokens to copy; donor -1: nothing to wait for.
  int64_t donor = -1, donor_tokens = 0;

 private:
  bool end(Finish reason);
  bool find_stop(size_t searched);
  void note_seen(int32_t token);

  std::shared_ptr<Request> request_;
  std::vector<int32_t> tokens_, seen_;
  std::vector<bool> is_seen_;  // only with a repetition penalty
  int64_t cached_ = 0;
  size_t longest_stop_ = 0, streamed_ = 0;
  Result result_;
};

}  // namespace tinylm::engine
