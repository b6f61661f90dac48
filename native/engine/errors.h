// What the engine throws; the bindings map each to one Python exception.
#pragma once

#include <stdexcept>

namespace tinylm::engine {

// The model file is damaged, of another version, or does not fit its own config.
struct FormatError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The file cannot be read.
struct FileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The caller asked for something impossible: an unknown instruction set, no slots, too much memory.
struct EngineError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace tinylm::engine
