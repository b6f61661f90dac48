// The Python face of the engine: one function per bound class. The only folder that includes Python.h.
#pragma once

#include <pybind11/pybind11.h>

namespace tinylm::bindings {

void bind_machine(pybind11::module_& module);
void bind_model(pybind11::module_& module);
void bind_engine(pybind11::module_& module);
void bind_training(pybind11::module_& module);

}  // namespace tinylm::bindings
