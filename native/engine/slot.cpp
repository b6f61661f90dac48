#include "slot.h"

#include <algorithm>
#include <utility>

namespace tinylm::engine {

void Slot::begin(std::shared_ptr<Request> request, int64_t cached, int64_t now_ns) {
  request_ = std::move(request);
  cached_ = cached;
  donor = -1;
  tokens_ = request_->tokens;
  if (request_->task == Task::score) tokens_.pop_back();  // the last token is only predicted
  result_ = Result{};
  result_.ticket = request_->ticket;
  result_.channel = request_->channel;
  result_.prompt_tokens = static_cast<int64_t>(request_->tokens.size());
  result_.submitted_ns = request_->submitted_ns;
  result_.started_ns = now_ns;
  streamed_ = longest_stop_ = 0;
  for (const std::string& stop : request_->stop) longest_stop_ = std::max(longest_stop_, stop.size());
  seen_.clear(), is_seen_.clear();
  if (request_->sampling.repetition_penalty != 1.0f)
    for (const int32_t token : tokens_) note_seen(token);
}

void Slot::note_seen(int32_t token) {
  const size_t index = static_cast<size_t>(token);
  if (index >= is_seen_.size()) is_seen_.resize(index + 1);
  if (is_seen_[index]) return;
  is_seen_[index] = true;
  seen_.push_back(token);
}

bool Slot::end(Finish reason) {
  result_.finish = reason;
  return true;
}

bool Slot::accept(int32_t token, int64_t eos, int64_t context_length, int64_t now_ns) {
  if (result_.first_token_ns == 0) result_.first_token_ns = now_ns;
  if (token == eos && !request_->ignore_eos) return end(Finish::stop);
  tokens_.push_back(token);
  result_.tokens.push_back(token);
  result_.token_times_ns.push_back(now_ns);
  if (request_->sampling.repetition_penalty != 1.0f) note_seen(token);
  if (request_->token_bytes) {
    const size_t before = result_.text.size();
    request_->token_bytes->append(token, result_.text);
    if (find_stop(before)) return end(Finish::stop);
  }
  if (static_cast<int64_t>(result_.tokens.size()) >= request_->max_new_tokens) return end(Finish::length);
  if (static_cast<int64_t>(tokens_.size()) >= context_length) return end(Finish::context_full);
  return false;
}

// Cuts the text before the stop string that begins first among those that end in the bytes after `searched`.
bool Slot::find_stop(size_t searched) {
  if (longest_stop_ == 0) return false;
  const size_t from = searched >= longest_stop_ ? searched - longest_stop_ + 1 : 0;
  size_t first = std::string::npos;
  for (const std::string& stop : request_->stop) first = std::min(first, result_.text.find(stop, from));
  if (first == std::string::npos) return false;
  result_.text.resize(first);
  return true;
}

std::string Slot::take_stream() {
  const size_t held = longest_stop_ > 0 ? longest_stop_ - 1 : 0;  // might be the start of a stop string
  const size_t safe = result_.text.size() > held ? result_.text.size() - held : 0;
  if (safe <= streamed_) return {};
  std::string piece = result_.text.substr(streamed_, safe - streamed_);
  if (streamed_ == 0 && request_->trim_space && piece.front() == ' ') piece.erase(0, 1);
  streamed_ = safe;
  return piece;
}

Result Slot::finish(Finish reason, int64_t now_ns) {
  result_.finish = reason;
  result_.finished_ns = now_ns;
  if (request_->trim_space && !result_.text.empty() && result_.text.front() == ' ') result_.text.erase(0, 1);
  request_.reset();
  donor = -1;
  return std::move(result_);
}

}  // namespace tinylm::engine
