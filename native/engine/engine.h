// The engine: one queue of requests, several replicas that pull from it, results by channel. Safe from any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "replica.h"

namespace tinylm::engine {

struct EngineOptions {
  int64_t replicas = 1;
  int64_t threads_per_replica = 1;
  int64_t max_batch = 1;  // slots per replica
};

struct EngineStats {
  int64_t steps = 0, rows = 0, new_tokens = 0;
  // Summed over replicas; the parts are of each replica's first thread.
  int64_t busy_ns = 0, gemm_ns = 0, attention_ns = 0, head_ns = 0, sampling_ns = 0, rest_ns = 0;
};

class Engine final : private Desk {
 public:
  Engine(std::shared_ptr<const Weights> weights, const EngineOptions& options);  // throws EngineError
  ~Engine() override;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const Weights& weights() const { return *weights_; }
  const EngineOptions& options() const { return options_; }
  size_t cache_bytes() const;
  size_t buffer_bytes() const;
  EngineStats stats() const;

  void set_token_bytes(std::shared_ptr<const TokenBytes> table);
  // A channel keeps one caller's results apart from another's; closing it cancels what it still has under way.
  int64_t open_channel();
  void close_channel(int64_t channel);

  // Returns a ticket at once. A request that cannot run (limits) is answered, never refused; see Finish.
  int64_t submit(std::shared_ptr<Request> request);
  // The text ends within one step; unknown or finished tickets are ignored.
  void cancel(int64_t ticket);
  // Finished requests (and pieces of streamed ones) of a channel, in order of completion; waits for the first at most
  // `timeout_ns`. Throws EngineError if a replica has failed.
  std::vector<Result> collect(int64_t channel, int64_t timeout_ns);

 private:
  struct Channel {
    std::deque<Result> ready;
  };

  std::shared_ptr<Request> next_request(int64_t active, bool wait) override;
  void deliver(std::vector<Result>& results) override;
  void deliver_locked(Result result);
  void start();
  void shut_down();
  void stop_locked();
  void close_locked(int64_t channel);
  void serve(Replica& replica) noexcept;
  bool answer_at_once(const Request& request);
  std::string complaint(const Request& request) const;
  int64_t share_locked() const;

  const std::shared_ptr<const Weights> weights_;
  const EngineOptions options_;
  const int64_t created_ns_, created_ticks_;

  mutable std::mutex lock_;
  std::condition_variable work_, done_;
  std::deque<std::shared_ptr<Request>> queue_;
  std::unordered_map<int64_t, std::shared_ptr<Request>> live_;  // queued or running, by ticket
  std::unordered_map<int64_t, Channel> channels_;
  std::shared_ptr<const TokenBytes> token_bytes_;
  int64_t next_ticket_ = 1, next_channel_ = 1;
  bool stop_ = false;
  const char* failure_ = nullptr;  // why a replica stopped

  std::vector<std::unique_ptr<Replica>> replicas_;
  std::vector<std::thread> threads_;
};

}  // namespace tinylm::engine
