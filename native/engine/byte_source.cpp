#include "byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "errors.h"

namespace tinylm::engine {

FileSource::FileSource(const std::string& path) : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (descriptor_ < 0) throw FileError(std::strerror(errno));
  struct stat facts{};
  const bool known = ::fstat(descriptor_, &facts) == 0;
  if (known && S_ISREG(facts.st_mode)) {
    size_ = static_cast<uint64_t>(facts.st_size);
    return;
  }
  const int why = known ? (S_ISDIR(facts.st_mode) ? EISDIR : EINVAL) : errno;
  ::close(descriptor_);
  throw FileError(std::strerror(why));
}

FileSource::~FileSource() { ::close(descriptor_); }

void FileSource::read(uint64_t offset, void* to, size_t count) const {
  char* at = static_cast<char*>(to);
  while (count > 0) {
    const ssize_t got = ::pread(descriptor_, at, count, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw FileError(std::strerror(errno));
    if (got == 0) throw FileError("the file became shorter while it was read");
    at += got;
    offset += static_cast<uint64_t>(got);
    count -= static_cast<size_t>(got);
  }
}

void MemorySource::read(uint64_t offset, void* to, size_t count) const {
  if (count > 0) std::memcpy(to, data_ + offset, count);
}

}  // namespace tinylm::engine
