// Sequences of scheduler calls on one engine: every request is answered exactly once, whatever else happens, and a text
// that was not cancelled is the text that the same request gives alone.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <tuple>
#include <memory>
#include <vector>

#include "engine.h"
#include "errors.h"
#include "tiny_model.h"

using namespace tinylm;
using engine::Engine;
using engine::Finish;
using engine::Request;
using engine::Result;

namespace {

constexpr int64_t kWaitNs = int64_t{10} * 1000000000;

[[noreturn]] void wrong(const char* what) {
  std::fprintf(stderr, "scheduler: %s\n", what);
  std::abort();
}

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ >= size_; }
  uint8_t next() { return empty() ? 0 : data_[at_++]; }

 private:
  const uint8_t* data_;
  size_t size_, at_ = 0;
};

struct Shape {  // what a request is made of: small, so that texts alone can be remembered
  uint8_t prompt, length, count, style;
  bool operator<(const Shape& o) const {
    return std::tie(prompt, length, count, style) < std::tie(o.prompt, o.length, o.count, o.style);
  }
};

std::shared_ptr<Request> make(const Shape& shape, int64_t channel) {
  auto r = std::make_shared<Request>();
  for (int i = 0; i < shape.length; ++i) r->tokens.push_back((shape.prompt + (i > 5 ? shape.style : 1) * i) % 61);
  r->max_new_tokens = static_cast<int8_t>(shape.count);
  r->channel = channel;
  r->task = shape.style % 16 == 15   ? engine::Task::score
            : shape.style % 16 == 14 ? engine::Task::logits
                                     : engine::Task::generate;
  r->sampling = {static_cast<float>(shape.style & 3) * 0.5f,
                 shape.style >> 4,
                 shape.style & 4 ? 0.7f : 1.0f,
                 0.0f,
                 shape.style & 8 ? 1.3f : 1.0f,
                 shape.style,
                 shape.count};
  r->stream = shape.style & 32;
  r->log_probs = shape.style & 64;
  r->ignore_eos = shape.style & 128;
  if (shape.style & 16) r->stop = {"ab", "b"};
  return r;
}

const std::shared_ptr<const engine::Weights>& weights() {
  static const std::string file = testing::tiny_file({});
  static const auto loaded =
      engine::load_weights(engine::MemorySource(file.data(), file.size()), *kernels::find_kernels("auto"), 1);
  return loaded;
}

std::shared_ptr<const engine::TokenBytes> letters() {
  auto table = std::make_shared<engine::TokenBytes>();
  table->offsets.push_back(0);
  for (int i = 0; i < 50; ++i) {
    table->bytes += static_cast<char>('a' + i % 5);
    table->offsets.push_back(table->bytes.size());
  }
  return table;
}

Result alone(const Shape& shape) {
  static Engine engine(weights(), {1, 1, 1});
  static std::map<Shape, Result> known;
  static const bool text = (engine.set_token_bytes(letters()), true);
  static_cast<void>(text);
  if (const auto found = known.find(shape); found != known.end()) return found->second;
  engine.submit(make(shape, 0));
  while (true)
    for (Result& result : engine.collect(0, kWaitNs))
      if (!result.partial) return known[shape] = std::move(result);
}

struct Sent {
  Shape shape;
  int64_t channel;
  bool cancelled;
  std::string streamed;
};

class Session {
 public:
  Session(int64_t replicas, int64_t threads, int64_t slots) : engine_(weights(), {replicas, threads, slots}) {
    engine_.set_token_bytes(letters());
  }

  void submit(const Shape& shape) {
    const int64_t ticket = engine_.submit(make(shape, channel_));
    sent_[ticket] = {shape, channel_, false, {}};
  }
  void cancel(uint8_t which) {
    if (sent_.empty()) return;
    auto it = sent_.begin();
    std::advance(it, which % sent_.size());
    it->second.cancelled = true;
    engine_.cancel(it->first);
  }
  void collect(int64_t wait_ns) {
    for (Result& result : engine_.collect(channel_, wait_ns)) check(std::move(result));
  }
  void change_channel() {
    drain();
    if (channel_ != 0) engine_.close_channel(channel_);
    channel_ = engine_.open_channel();
  }
  void abandon_channel() {
    if (channel_ == 0) return;
    engine_.close_channel(channel_);
    for (auto it = sent_.begin(); it != sent_.end();)
      it = it->second.channel == channel_ ? sent_.erase(it) : std::next(it);
    channel_ = 0;
  }
  void drain() {
    while (!sent_.empty()) {
      const size_t before = sent_.size();
      collect(kWaitNs);
      if (sent_.size() == before && ++idle_ > 1000) wrong("a request is never answered");
    }
  }

 private:
  void check(Result result) {
    const auto found = sent_.find(result.ticket);
    if (found == sent_.end()) wrong("a result for no request");
    Sent& sent = found->second;
    idle_ = 0;
    if (result.partial) {
      sent.streamed += result.text;
      return;
    }
    if (result.text.compare(0, sent.streamed.size(), sent.streamed) != 0)
      wrong("the stream is no beginning of the text");
    if (result.finish == Finish::cancelled) {
      if (!sent.cancelled) wrong("cancelled by nobody");
    } else {
      const Result expected = alone(sent.shape);
      if (result.tokens != expected.tokens || result.text != expected.text || result.finish != expected.finish ||
          result.log_probs != expected.log_probs || result.logits != expected.logits)
        wrong("a text depends on its company");
    }
    sent_.erase(found);
  }

  Engine engine_;
  int64_t channel_ = 0;
  int idle_ = 0;
  std::map<int64_t, Sent> sent_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes bytes(data, std::min<size_t>(size, 400));
  const uint8_t setup = bytes.next();
  Session session(1 + (setup & 1), 1 + (setup >> 1 & 1), 1 + (setup >> 2 & 7));
  while (!bytes.empty()) {
    switch (bytes.next() % 8) {
      case 0:
      case 1:
      case 2:
      case 3: {
        const uint8_t prompt = bytes.next(), length = bytes.next(), count = bytes.next(), style = bytes.next();
        session.submit({static_cast<uint8_t>(prompt % 8), static_cast<uint8_t>(length % 44),
                        static_cast<uint8_t>(count % 48), style});
        break;
      }
      case 4: session.cancel(bytes.next()); break;
      case 5: session.collect(0); break;
      case 6: session.collect(1000000); break;
      case 7: bytes.next() % 2 ? session.change_channel() : session.abandon_channel(); break;
    }
  }
  session.drain();
  return 0;
}
