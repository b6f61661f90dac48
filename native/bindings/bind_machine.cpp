#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings.h"
#include "kernels.h"

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

}  // namespace

void bind_machine(py::module_& module) {
  module.def("available_isas", &available_isas, "Instruction sets that this build has and this machine runs, fastest first.");
  module.def("build_info", [] {
    py::dict info;
    info["compiler"] = __VERSION__;
    info["flags"] = TINYLM_FLAGS;
    info["isas"] = TINYLM_ISAS;
    return info;
  });
}

}  // namespace tinylm::bindings
