#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bindings.h"
#include "kernels.h"
#include "machine_limits.h"

namespace py = pybind11;

namespace tinylm::bindings {

namespace {

std::vector<std::string> available_isas() {
  const kernels::KernelTable* tables[16];
  const size_t count = kernels::available_kernels(tables, 16);
  std::vector<std::string> names;
  for (size_t i = 0; i < count && i < 16; ++i) names.emplace_back(tables[i]->name);
  return names;
}

py::tuple measure_macs(const std::string& kind, int threads, double seconds) {
  const std::vector<std::string> kinds = {"int8", "bf16", "f32"};
  const auto found = std::find(kinds.begin(), kinds.end(), kind);
  if (found == kinds.end()) throw py::value_error("kind: found '" + kind + "', expected int8, bf16 or f32");
  if (threads < 1 || threads > 1024)
    throw py::value_error("threads: found " + std::to_string(threads) + ", expected 1 to 1024");
  limits::Peak peak;
  {
    py::gil_scoped_release release;
    peak = limits::measure_macs(static_cast<limits::Arithmetic>(found - kinds.begin()), threads, seconds);
  }
  return py::make_tuple(peak.instruction, peak.macs_per_s);
}

double measure_read(size_t working_set_bytes, int threads, double seconds) {
  if (threads < 1 || threads > 1024)
    throw py::value_error("threads: found " + std::to_string(threads) + ", expected 1 to 1024");
  py::gil_scoped_release release;
  return limits::measure_read(working_set_bytes, threads, seconds);
}

}  // namespace

void bind_machine(py::module_& module) {
  module.def("available_isas", &available_isas,
             "Instruction sets that this build has and this machine runs, fastest first.");
  module.def("measure_macs", &measure_macs, py::kw_only(), py::arg("kind"), py::arg("threads"), py::arg("seconds"),
             "The instruction measured and multiply-accumulates per second of all threads; kind int8, bf16 or f32.");
  module.def("measure_read", &measure_read, py::kw_only(), py::arg("working_set_bytes"), py::arg("threads"),
             py::arg("seconds"), "Bytes read per second by all threads, each over its own working set.");
  module.def("build_info", [] {
    py::dict info;
    info["compiler"] = __VERSION__;
    info["flags"] = TINYLM_FLAGS;
    info["isas"] = TINYLM_ISAS;
    return info;
  });
}

}  // namespace tinylm::bindings
