// Where model bytes come from: a file read with pread (never mapped, so truncation cannot raise SIGBUS) or memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace tinylm::engine {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual uint64_t size() const = 0;
  // Fills `to`; callers keep offset + count within size(). Safe from several threads. Throws FileError.
  virtual void read(uint64_t offset, void* to, size_t count) const = 0;
};

class FileSource final : public ByteSource {
 public:
  explicit FileSource(const std::string& path);  // throws FileError
  ~FileSource() override;
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;
  uint64_t size() const override { return size_; }
  void read(uint64_t offset, void* to, size_t count) const override;

 private:
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

// A view: the bytes must outlive it.
class MemorySource final : public ByteSource {
 public:
  MemorySource(const void* data, size_t size) : data_(static_cast<const char*>(data)), size_(size) {}
  uint64_t size() const override { return size_; }
  void read(uint64_t offset, void* to, size_t count) const override;

 private:
  const char* data_;
  size_t size_;
};

}  // namespace tinylm::engine
