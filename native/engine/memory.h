// Zeroed memory straight from the system: pages are committed when first touched, huge ones where asked.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tinylm::engine {

class Pages {
 public:
  Pages() = default;
  // Throws EngineError naming `what` and the size when the system refuses.
  Pages(size_t bytes, bool huge, const char* what);
  ~Pages();
  Pages(Pages&& other) noexcept;
  Pages& operator=(Pages&& other) noexcept;

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void release();
  uint8_t* base_ = nullptr;  // what the system gave; data_ is aligned to 2 MB inside it when huge
  size_t mapped_ = 0;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace tinylm::engine
