#include "replica.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "clock.h"

namespace tinylm::engine {

namespace {

// Rows that a step may add to one row per slot, so that prompts are read at full matmul speed while the texts under way
// wait for at most about twice a full step (chosen).
constexpr int64_t kPromptRows = 64;
constexpr int64_t kLeastRows = 128;
// A single slot keeps nobody waiting: a prompt of some 200 tokens is one step, which reads the weights once.
constexpr int64_t kAloneRows = 256;
// Shared beginnings shorter than this are read again rather than copied (chosen; a copy costs about one token).
constexpr int64_t kShortestPrefix = 4;

int64_t common_prefix(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  const size_t limit = std::min(a.size(), b.size());
  return std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(limit), b.begin()).first - a.begin();
}

}  // namespace

Replica::Replica(const Weights& weights, Desk& desk, int threads, int64_t slots)
    : weights_(weights),
      desk_(desk),
      team_(threads),
      cache_(weights.config(), *weights.kernels, weights.kv_type(), slots),
      forward_(weights, team_, cache_, slots == 1 ? kAloneRows : std::max(kLeastRows, slots + kPromptRows)),
      samplers_(static_cast<size_t>(threads), Sampler(*weights.kernels, weights.config().vocab_size)),
      slots_(static_cast<size_t>(slots)) {
  const size_t rows = static_cast<size_t>(forward_.max_rows());
  wanted_.reserve(rows), sampled_.resize(rows), log_probs_.resize(rows);
}

void Replica::run() {
  do {
    step();
    drop_cancelled();
    if (!results_.empty()) desk_.deliver(results_);
    // Before new requests come: a waiting slot must find its donor's cache as it was promised.
    for (const size_t slot : order_) copy_prefix(slot);
  } while (admit(active_ == 0));
}

void Replica::step() {
  const int64_t started_ns = steady_ns();
  collect_segments();
  if (segments_.empty()) return;
  forward_.run(segments_, *this);
  const int64_t now_ns = steady_ns();
  count(started_ns, now_ns);
  apply(now_ns);
}

void Replica::drop_cancelled() {
  for (size_t i = order_.size(); i-- > 0;)
    if (slots_[order_[i]].request().cancelled.load(std::memory_order_relaxed))
      finish(order_[i], Finish::cancelled, steady_ns());
}

// Fills free slots; returns false at the end of all work.
bool Replica::admit(bool wait) {
  while (active_ < static_cast<int64_t>(slots_.size())) {
    std::shared_ptr<Request> request = desk_.next_request(active_, wait);
    if (!request) return !wait;
    place(std::move(request));
    wait = false;
  }
  return true;
}

// Where a request goes: a free slot whose cache begins like it and has room for it, else one that it copies nothing
// from.
Replica::Place Replica::find_place(const Request& request, int64_t capacity) const {
  const int64_t limit = request.task == Task::generate ? static_cast<int64_t>(request.tokens.size()) - 1 : 0;
  Place place{slots_.size(), 0, slots_.size(), kShortestPrefix - 1};
  size_t spare = slots_.size();  // the first free slot but for the donor
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    const int64_t shared = limit < kShortestPrefix ? 0 : std::min(limit, common_prefix(slot.tokens(), request.tokens));
    const int64_t ready = std::min(shared, slot.cached());
    const bool fits = cache_.capacity(static_cast<int64_t>(i)) >= capacity;
    if (!slot.busy() && fits && ready >= kShortestPrefix && ready > place.own) place.home = i, place.own = ready;
    const int64_t reachable = slot.busy() && slot.request().task == Task::generate ? shared : ready;
    if (reachable > place.shared) place.donor = i, place.shared = reachable;
  }
  for (size_t i = slots_.size(); i-- > 0;)
    if (!slots_[i].busy() && (i != place.donor || spare == slots_.size())) spare = i;
  if (place.home == slots_.size()) place.home = spare;
  return place;
}

void Replica::place(std::shared_ptr<Request> request) {
  const int64_t room =
      request->task == Task::generate ? std::min(request->max_new_tokens, weights_.config().context_length) : 0;
  const int64_t capacity = cache_.capacity_for(static_cast<int64_t>(request->tokens.size()) + room);
  const Place found = find_place(*request, capacity);
  const int64_t home = static_cast<int64_t>(found.home);
  Slot& slot = slots_[found.home];
  if (found.own == 0 && cache_.capacity(home) != capacity) cache_.set_capacity(home, capacity);
  slot.begin(std::move(request), found.own, steady_ns());
  if (found.donor != slots_.size() && found.donor != found.home && found.shared > found.own)
    slot.donor = static_cast<int64_t>(found.donor), slot.donor_tokens = found.shared;
  copy_prefix(found.home);
  order_.push_back(found.home);
  ++active_;
  make_room(found.home);
}

// Where a request's answer goes. One that finds no memory is answered so, and the others go on.
void Replica::make_room(size_t index) {
  Slot& slot = slots_[index];
  const size_t rows = slot.tokens().size(), logits = rows * static_cast<size_t>(weights_.config().vocab_size);
  try {
    if (slot.request().task == Task::score) slot.result().log_probs.resize(rows);
    if (slot.request().task == Task::logits) slot.result().logits.resize(logits);
  } catch (const std::bad_alloc&) {
    slot.result().error = "no memory for the answer to " + std::to_string(rows) + " tokens; ask for fewer at once";
    finish(index, Finish::invalid_input, steady_ns());
  }
}

// A waiting slot copies once its donor has read the shared tokens, and stops waiting if the donor never will.
void Replica::copy_prefix(size_t index) {
  Slot& slot = slots_[index];
  if (slot.donor < 0) return;
  const Slot& donor = slots_[static_cast<size_t>(slot.donor)];
  const int64_t wanted = slot.donor_tokens;
  const bool alike = common_prefix(donor.tokens(), slot.tokens()) >= wanted;
  const int64_t ready = alike ? std::min(wanted, donor.cached()) : 0;
  if (alike && ready < wanted && donor.busy()) return;
  if (ready > slot.cached()) {
    cache_.copy(slot.donor, static_cast<int64_t>(index), ready);
    slot.advance(ready - slot.cached());
  }
  slot.donor = -1;
}

void Replica::collect_segments() {
  segments_.clear(), wanted_.clear();
  int64_t room = forward_.max_rows();
  for (const size_t slot : order_)
    if (slots_[slot].donor < 0 && slots_[slot].pending() == 1) add_segment(slot, 1), --room;
  for (const size_t slot : order_) {
    if (slots_[slot].donor >= 0 || slots_[slot].pending() == 1) continue;
    const int64_t count = std::min(room, slots_[slot].pending());
    if (count == 0) continue;
    add_segment(slot, count);
    room -= count;
  }
}

void Replica::add_segment(size_t index, int64_t count) {
  Slot& slot = slots_[index];
  const int64_t first = slot.cached();
  const bool generate = slot.request().task == Task::generate;
  const int64_t logits = !generate ? count : count == slot.pending() ? 1 : 0;
  segments_.push_back({static_cast<int64_t>(index), first, count, slot.tokens().data() + first, logits});
  for (int64_t i = count - logits; i < count; ++i) wanted_.push_back({index, first + i, generate});
}

int64_t Replica::wanted(int64_t row) const {
  const Wanted& wanted = wanted_[static_cast<size_t>(row)];
  const Request& request = slots_[wanted.slot].request();
  return request.task == Task::generate && !request.log_probs ? samplers_[0].deciding(request.sampling) : 0;
}

// On any thread of the team: writes only to this row's places.
void Replica::take(int thread, int64_t row, float* logits, float* maxima, float floor) {
  const Wanted& wanted = wanted_[static_cast<size_t>(row)];
  Slot& slot = slots_[wanted.slot];
  const Request& request = slot.request();
  Sampler& sampler = samplers_[static_cast<size_t>(thread)];
  const size_t position = static_cast<size_t>(wanted.position);
  if (request.task == Task::logits) {
    const size_t vocab = static_cast<size_t>(weights_.config().vocab_size);
    std::memcpy(slot.result().logits.data() + position * vocab, logits, vocab * sizeof(float));
  } else if (request.task == Task::score) {
    if (position + 1 < request.tokens.size())
      slot.result().log_probs[position] = sampler.log_prob(logits, maxima, request.tokens[position + 1]);
  } else {
    const uint64_t at = static_cast<uint64_t>(position) + 1;
    float* log_prob = request.log_probs ? &log_probs_[static_cast<size_t>(row)] : nullptr;
    sampled_[static_cast<size_t>(row)] =
        sampler.choose(logits, maxima, floor, request.sampling, slot.seen(), at, log_prob);
  }
}

void Replica::apply(int64_t now_ns) {
  for (const Segment& segment : segments_) slots_[static_cast<size_t>(segment.slot)].advance(segment.count);
  for (size_t row = 0; row < wanted_.size(); ++row) {
    if (!wanted_[row].sample) continue;
    const size_t index = wanted_[row].slot;
    Slot& slot = slots_[index];
    const size_t before = slot.result().tokens.size();
    const bool done = slot.accept(sampled_[row], weights_.header.eos_id, weights_.config().context_length, now_ns);
    const bool kept = slot.result().tokens.size() > before;  // an end of text is none of the text's tokens
    if (kept && slot.request().log_probs) slot.result().log_probs.push_back(log_probs_[row]);
    if (slot.request().stream && !done) {
      Result piece;
      piece.text = slot.take_stream();
      piece.partial = true;
      piece.ticket = slot.request().ticket, piece.channel = slot.request().channel;
      if (!piece.text.empty()) results_.push_back(std::move(piece));
    }
    if (done) finish(index, slot.result().finish, now_ns);
  }
  for (const Segment& segment : segments_) {
    const size_t index = static_cast<size_t>(segment.slot);
    Slot& slot = slots_[index];
    if (slot.busy() && slot.request().task != Task::generate && slot.pending() == 0)
      finish(index, Finish::length, now_ns);
  }
}

void Replica::finish(size_t index, Finish reason, int64_t now_ns) {
  results_.push_back(slots_[index].finish(reason, now_ns));
  order_.erase(std::find(order_.begin(), order_.end(), index));
  --active_;
}

void Replica::count(int64_t started_ns, int64_t now_ns) {
  int64_t rows = 0, tokens = 0;
  for (const Segment& segment : segments_) rows += segment.count;
  for (const Wanted& wanted : wanted_) tokens += wanted.sample;
  const auto add = [&](size_t index, int64_t amount) { counters_[index].fetch_add(amount, std::memory_order_relaxed); };
  add(0, 1), add(1, rows), add(2, tokens), add(3, now_ns - started_ns);
  const PartTicks spent = forward_.take_ticks();
  for (size_t part = 0; part < spent.size(); ++part) add(4 + part, spent[part]);
}

ReplicaStats Replica::stats() const {
  const auto read = [&](size_t index) { return counters_[index].load(std::memory_order_relaxed); };
  ReplicaStats stats{read(0), read(1), read(2), read(3), {}};
  for (size_t part = 0; part < stats.ticks.size(); ++part) stats.ticks[part] = read(4 + part);
  return stats;
}

}  // namespace tinylm::engine
