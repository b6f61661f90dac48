// tinylm-cli: a TinyLM model file at work without Python.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>

#include "errors.h"
#include "options.h"
#include "story.h"

namespace {

using tinylm::cli::Options;
using tinylm::cli::Storyteller;

constexpr int kDone = 0, kFailed = 1, kBadInput = 2;

struct CloseFile {
  void operator()(std::FILE* file) const {
    if (file != stdin && file != stdout) std::fclose(file);
  }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

File open_file(const std::string& path, const char* mode, std::FILE* standard) {
  if (path.empty() || path == "-") return File(standard);
  std::FILE* file = std::fopen(path.c_str(), mode);
  if (file == nullptr) throw tinylm::engine::FileError(path + ": " + std::strerror(errno));
  return File(file);
}

int run(const Options& options) {
  if (options.prompts_file.empty()) {
    Storyteller(options).tell(stdout);
    return kDone;
  }
  const File from = open_file(options.prompts_file, "rb", stdin);
  Storyteller teller(options);
  const File to = open_file(options.out_file, "wb", stdout);
  const int64_t bad = teller.answer(from.get(), to.get());
  if (std::fflush(to.get()) != 0) throw tinylm::engine::FileError("the output cannot be written");
  if (bad > 0)
    std::fprintf(stderr, "tinylm-cli: %lld rows could not be used; their lines say why\n", static_cast<long long>(bad));
  return bad > 0 ? kBadInput : kDone;
}

int complain(const char* what, int code) {
  std::fprintf(stderr, "tinylm-cli: %s\n", what);
  return code;
}

}  // namespace

int main(int count, char** words) {
  try {
    const Options options = tinylm::cli::parse_options(count, words);
    if (options.help || options.version) {
      std::fputs(options.help ? tinylm::cli::kUsage : "tinylm-cli " TINYLM_VERSION "\n", stdout);
      return kDone;
    }
    return run(options);
  } catch (const tinylm::cli::UsageError& error) {
    return complain(error.what(), kBadInput);
  } catch (const tinylm::engine::FormatError& error) {
    return complain(error.what(), kBadInput);
  } catch (const tinylm::engine::FileError& error) {
    return complain(error.what(), kBadInput);
  } catch (const std::bad_alloc&) {
    return complain("not enough memory; lower --max-batch or --replicas", kFailed);
  } catch (const std::exception& error) {
    return complain(error.what(), kFailed);
  }
}
