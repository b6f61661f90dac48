// What Python holds of a loaded model: shared, constant weights.
#pragma once

#include <memory>

#include "weights.h"

namespace tinylm::bindings {

struct Model {
  std::shared_ptr<const engine::Weights> weights;
};

}  // namespace tinylm::bindings
