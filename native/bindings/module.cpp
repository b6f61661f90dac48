#include <exception>

#include "bindings.h"
#include "errors.h"

namespace py = pybind11;

PYBIND11_MODULE(_native, module) {
  module.doc() = "TinyLM's C++ engine; use it through tinylm.engine.";
  static PyObject* format_error =
      py::exception<tinylm::engine::FormatError>(module, "FormatError", PyExc_ValueError).release().ptr();
  static PyObject* engine_error =
      py::exception<tinylm::engine::EngineError>(module, "EngineError", PyExc_RuntimeError).release().ptr();
  py::register_exception_translator([](std::exception_ptr caught) {
    try {
      if (caught) std::rethrow_exception(caught);
    } catch (const tinylm::engine::FormatError& error) {
      PyErr_SetString(format_error, error.what());
    } catch (const tinylm::engine::EngineError& error) {
      PyErr_SetString(engine_error, error.what());
    } catch (const tinylm::engine::FileError& error) {
      PyErr_SetString(PyExc_OSError, error.what());
    }
  });
  tinylm::bindings::bind_machine(module);
  tinylm::bindings::bind_model(module);
  tinylm::bindings::bind_engine(module);
  tinylm::bindings::bind_training(module);
}
