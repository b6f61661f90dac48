#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>

#include "bindings.h"
#include "errors.h"
#include "model.h"

namespace py = pybind11;

namespace tinylm::bindings {

namespace {

const kernels::KernelTable& table_named(const std::string& isa) {
  const kernels::KernelTable* table = kernels::find_kernels(isa.c_str());
  if (table == nullptr)
    throw engine::EngineError("instruction set '" + isa + "' is not in this build or not on this machine");
  return *table;
}

std::optional<int64_t> token(int64_t id) { return id < 0 ? std::nullopt : std::optional<int64_t>(id); }

Model load_model(const std::string& path, const std::string& isa, int threads) {
  const py::gil_scoped_release release;
  const kernels::KernelTable& table = table_named(isa);
  return {engine::load_weights(engine::FileSource(path), table, threads)};
}

Model parse_model(const py::bytes& content, const std::string& isa) {
  const std::string_view bytes = content;
  const py::gil_scoped_release release;
  return {engine::load_weights(engine::MemorySource(bytes.data(), bytes.size()), table_named(isa), 1)};
}

}  // namespace

void bind_model(py::module_& module) {
  py::class_<Model>(module, "Model", "Weights of one model file, packed for one instruction set.")
      .def_property_readonly("config_json", [](const Model& m) { return m.weights->header.config_json; })
      .def_property_readonly("precision", [](const Model& m) { return m.weights->header.precision; })
      .def_property_readonly("tokenizer", [](const Model& m) { return py::bytes(m.weights->tokenizer); })
      .def_property_readonly("tokenizer_kind", [](const Model& m) { return m.weights->header.tokenizer_kind; })
      .def_property_readonly("bos_id", [](const Model& m) { return token(m.weights->header.bos_id); })
      .def_property_readonly("eos_id", [](const Model& m) { return token(m.weights->header.eos_id); })
      .def_property_readonly("add_bos", [](const Model& m) { return m.weights->header.add_bos; })
      .def_property_readonly("provenance_json", [](const Model& m) { return m.weights->header.provenance; })
      .def_property_readonly("digest", [](const Model& m) { return m.weights->header.sha256; })
      .def_property_readonly("isa", [](const Model& m) { return std::string(m.weights->kernels->name); })
      .def_property_readonly("weights_bytes", [](const Model& m) { return m.weights->arena.size(); });
  module.def("load_model", &load_model, py::arg("path"), py::kw_only(), py::arg("isa"), py::arg("threads"));
  module.def("parse_model", &parse_model, py::arg("content"), py::kw_only(), py::arg("isa"));
}

}  // namespace tinylm::bindings
