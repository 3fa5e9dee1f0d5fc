#include "lorikeet/core/cuda_backend.h"

#include <dlfcn.h>

#include <filesystem>

namespace lorikeet {
namespace {

constexpr char kLibrary[] = "liblorikeet_cuda.so";

struct LoadResult {
  bool is_loaded = false;
  void* library = nullptr;
  std::string why_not;
  CudaBackend backend;
};

// The library's path beside the program or in ../lib; else its bare name, for the program's run
// path.
std::string find_library() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    for (const auto& folder :
         {program.parent_path(), program.parent_path().parent_path() / "lib"}) {
      if (std::filesystem::exists(folder / kLibrary, error)) return (folder / kLibrary).string();
    }
  }
  return kLibrary;
}

LoadResult load() {
  LoadResult result;
  // Asked first: LibTorch's CUDA half takes seconds to open, and without a driver for nothing.
  if (!dlopen("libcuda.so.1", RTLD_LAZY)) {
    result.why_not = "no NVIDIA driver is installed (libcuda.so.1 was not found)";
    return result;
  }
  // Global and never closed: it registers operators, and LibTorch must see its CUDA half.
  void* library = dlopen(find_library().c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    result.why_not = std::string("the CUDA back end cannot be opened: ") + dlerror();
    return result;
  }
  const auto describe =
      reinterpret_cast<detail::DescribeCuda>(dlsym(library, "lorikeet_cuda_describe"));
  if (!describe) {
    result.why_not = std::string(kLibrary) + " is not of this program: " + dlerror();
    return result;
  }
  if (const char* reason = describe(&result.backend)) {
    result.why_not = std::string("CUDA finds no usable GPU: ") + reason;
    result.backend = {};
    return result;
  }
  result.is_loaded = true;
  result.library = library;
  return result;
}

const LoadResult& loaded_once() {
  static const LoadResult result = load();
  return result;
}

}  // namespace

bool load_cuda_backend(std::string* why_not) {
  const LoadResult& result = loaded_once();
  if (why_not) *why_not = result.why_not;
  return result.is_loaded;
}

const CudaBackend& cuda_backend() { return loaded_once().backend; }

void* cuda_symbol(const char* name) {
  void* library = loaded_once().library;
  return library ? dlsym(library, name) : nullptr;
}

}  // namespace lorikeet
