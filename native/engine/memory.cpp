#include "memory.h"

#include <sys/mman.h>

#include <string>
#include <utility>

#include "errors.h"

namespace tinylm::engine {

namespace {
constexpr size_t kHugePage = size_t{1} << 21;
#if !defined(MAP_NORESERVE)
#define MAP_NORESERVE 0
#endif
}  // namespace

Pages::Pages(size_t bytes, bool huge, const char* what) {
  if (bytes == 0) return;
  mapped_ = bytes + (huge ? kHugePage : 0);
  void* given = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (given == MAP_FAILED) {
    mapped_ = 0;
    throw EngineError("not enough memory for " + std::string(what) + ": " + std::to_string(bytes >> 20) +
                      " MB; lower max_batch or replicas, or free memory");
  }
  base_ = static_cast<uint8_t*>(given);
  size_ = bytes;
  data_ = base_;
  if (!huge) return;
  data_ += (kHugePage - reinterpret_cast<uintptr_t>(base_) % kHugePage) % kHugePage;
#if defined(MADV_HUGEPAGE)
  // Whole huge pages only: a started one would commit up to 2 MB that nobody uses.
  ::madvise(data_, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
}

void Pages::release() {
  if (base_ != nullptr) ::munmap(base_, mapped_);
}

Pages::~Pages() { release(); }

Pages::Pages(Pages&& other) noexcept { *this = std::move(other); }

Pages& Pages::operator=(Pages&& other) noexcept {
  if (this == &other) return *this;
  release();
  base_ = std::exchange(other.base_, nullptr);
  mapped_ = std::exchange(other.mapped_, 0);
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  return *this;
}

}  // namespace tinylm::engine
