#include <pybind11/numpy.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bindings.h"
#include "engine.h"
#include "errors.h"
#include "model.h"

namespace py = pybind11;

namespace tinylm::bindings {

namespace {

using engine::Request;
using engine::Result;

constexpr int64_t kMaxWaitNs = int64_t{3600} * 1000000000;

// The engine, or nothing once closed; destruction joins threads, so it runs without the GIL. A forked child has no use
// for it.
class Handle {
 public:
  Handle(const Model& model, int64_t replicas, int64_t threads_per_replica, int64_t max_batch) {
    const py::gil_scoped_release release;
    engine_ = std::make_shared<engine::Engine>(model.weights,
                                               engine::EngineOptions{replicas, threads_per_replica, max_batch});
  }
  ~Handle() { close(); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  std::shared_ptr<engine::Engine> get() const {
    if (forked())
      throw engine::EngineError("the engine belongs to the process that loaded it; load one in this process");
    if (!engine_) throw engine::EngineError("the engine is closed");
    return engine_;
  }
  void close() {
    std::shared_ptr<engine::Engine> last = std::move(engine_);
    // Its threads live in the parent alone, so there is nobody to join: the memory goes with this process.
    if (forked()) {
      new std::shared_ptr<engine::Engine>(std::move(last));
      return;
    }
    const py::gil_scoped_release release;
    last.reset();
  }

 private:
  bool forked() const { return getpid() != owner_; }

  const pid_t owner_ = getpid();
  std::shared_ptr<engine::Engine> engine_;
};

engine::Task task_named(const std::string& name) {
  if (name == "generate") return engine::Task::generate;
  if (name == "score") return engine::Task::score;
  if (name == "logits") return engine::Task::logits;
  throw py::value_error("unknown task " + name);
}

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

// Ids beyond 32 bits are in no vocabulary; the engine, whose ids have 32, could not name them in its answer.
int32_t to_token(int64_t id) {
  if (id < INT32_MIN || id > INT32_MAX)
    throw std::overflow_error("token " + std::to_string(id) + " is outside the vocabulary");
  return static_cast<int32_t>(id);
}

// No NumPy array here, nor in a result unless it holds logits: its import would cost a program of ours 13 MB and 0.1 s.
std::vector<int32_t> to_tokens(const py::buffer& ids) {
  const py::buffer_info info = ids.request();
  if (!info.item_type_is_equivalent_to<int64_t>() || info.ndim != 1 || info.strides[0] != sizeof(int64_t)) {
    throw py::value_error("tokens: expected a flat buffer of int64");
  }
  const auto* first = static_cast<const int64_t*>(info.ptr);
  std::vector<int32_t> tokens(static_cast<size_t>(info.size));
  std::transform(first, first + info.size, tokens.begin(), to_token);
  return tokens;
}

template <typename T>
py::bytes to_bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

template <typename T>
py::array_t<T> to_array(std::vector<T>& values) {
  auto* owned = new std::vector<T>(std::move(values));
  const py::capsule owner(owned, [](void* p) { delete static_cast<std::vector<T>*>(p); });
  return py::array_t<T>(static_cast<py::ssize_t>(owned->size()), owned->data(), owner);
}

std::shared_ptr<engine::TokenBytes> to_table(const std::vector<py::bytes>& entries) {
  auto table = std::make_shared<engine::TokenBytes>();
  table->offsets.push_back(0);
  for (const py::bytes& entry : entries) {
    table->bytes += static_cast<std::string>(entry);
    table->offsets.push_back(table->bytes.size());
  }
  return table;
}

py::dict stats_of(const Handle& handle) {
  const engine::EngineStats stats = handle.get()->stats();
  py::dict values;
  values["steps"] = stats.steps;
  values["rows"] = stats.rows;
  values["new_tokens"] = stats.new_tokens;
  values["busy_ns"] = stats.busy_ns;
  values["gemm_ns"] = stats.gemm_ns;
  values["attention_ns"] = stats.attention_ns;
  values["head_ns"] = stats.head_ns;
  values["sampling_ns"] = stats.sampling_ns;
  values["rest_ns"] = stats.rest_ns;
  return values;
}

int64_t submit(const Handle& handle, const py::buffer& tokens, const std::string& task, int64_t max_new_tokens,
               float temperature, int64_t top_k, float top_p, float min_p, float repetition_penalty, uint64_t seed,
               uint64_t sample, std::vector<std::string> stop, bool ignore_eos, bool stream, bool log_probs,
               bool trim_space, int64_t channel) {
  auto request = std::make_shared<Request>();
  request->channel = channel;
  request->task = task_named(task);
  request->tokens = to_tokens(tokens);
  request->max_new_tokens = max_new_tokens;
  request->sampling = {temperature, top_k, top_p, min_p, repetition_penalty, seed, sample};
  request->stop = std::move(stop);
  request->ignore_eos = ignore_eos;
  request->stream = stream;
  request->log_probs = log_probs;
  request->trim_space = trim_space;
  const auto target = handle.get();
  const py::gil_scoped_release release;
  return target->submit(std::move(request));
}

std::vector<Result> collect(const Handle& handle, int64_t channel, double timeout_s) {
  const double wanted_ns = std::isnan(timeout_s) ? 0.0 : timeout_s * 1e9;
  const int64_t wait_ns = static_cast<int64_t>(std::clamp(wanted_ns, 0.0, static_cast<double>(kMaxWaitNs)));
  const auto target = handle.get();
  const py::gil_scoped_release release;
  return target->collect(channel, wait_ns);
}

void bind_result(py::module_& module) {
  py::class_<Result>(module, "Result", "One finished request, or a piece of a streamed one (partial).")
      .def_readonly("ticket", &Result::ticket)
      .def_readonly("partial", &Result::partial)
      .def_property_readonly("finish_reason", [](const Result& r) { return name_of(r.finish); })
      .def_readonly("error", &Result::error)
      .def_property_readonly("text", [](const Result& r) { return py::bytes(r.text); })
      .def_property_readonly("token_ids", [](const Result& r) { return r.tokens; })
      .def_readonly("prompt_tokens", &Result::prompt_tokens)
      .def_readonly("submitted_ns", &Result::submitted_ns)
      .def_readonly("started_ns", &Result::started_ns)
      .def_readonly("first_token_ns", &Result::first_token_ns)
      .def_readonly("finished_ns", &Result::finished_ns)
      .def_property_readonly("token_times_ns", [](const Result& r) { return to_bytes(r.token_times_ns); })
      .def_property_readonly("log_probs", [](const Result& r) { return to_bytes(r.log_probs); })
      .def("take_logits", [](Result& r) { return to_array(r.logits); });
}

}  // namespace

void bind_engine(py::module_& module) {
  bind_result(module);
  py::class_<Handle>(module, "Engine", "Replicas at work over one model.")
      .def(py::init<const Model&, int64_t, int64_t, int64_t>(), py::arg("model"), py::kw_only(), py::arg("replicas"),
           py::arg("threads_per_replica"), py::arg("max_batch"))
      .def("close", &Handle::close)
      .def("open_channel", [](const Handle& h) { return h.get()->open_channel(); })
      .def(
          "close_channel", [](const Handle& h, int64_t channel) { h.get()->close_channel(channel); },
          py::arg("channel"))
      .def(
          "cancel", [](const Handle& h, int64_t ticket) { h.get()->cancel(ticket); }, py::arg("ticket"))
      .def(
          "set_token_bytes",
          [](const Handle& h, const std::vector<py::bytes>& entries) { h.get()->set_token_bytes(to_table(entries)); },
          py::arg("entries"))
      .def("stats", &stats_of)
      .def_property_readonly("cache_bytes", [](const Handle& h) { return h.get()->cache_bytes(); })
      .def_property_readonly("buffer_bytes", [](const Handle& h) { return h.get()->buffer_bytes(); })
      .def("submit", &submit, py::arg("tokens"), py::kw_only(), py::arg("task") = "generate",
           py::arg("max_new_tokens") = 0, py::arg("temperature") = 0.0f, py::arg("top_k") = 0, py::arg("top_p") = 1.0f,
           py::arg("min_p") = 0.0f, py::arg("repetition_penalty") = 1.0f, py::arg("seed") = 0, py::arg("sample") = 0,
           py::arg("stop") = std::vector<std::string>{}, py::arg("ignore_eos") = false, py::arg("stream") = false,
           py::arg("log_probs") = false, py::arg("trim_space") = false, py::arg("channel") = 0)
      .def("collect", &collect, py::kw_only(), py::arg("channel") = 0, py::arg("timeout_s") = 0.0);
}

}  // namespace tinylm::bindings
