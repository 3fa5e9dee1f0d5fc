// The device itself as LibTorch asks for it: memory, streams and events, generators.
#include "device.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>

#include "touches.h"

namespace lorikeet::pretend_gpu {

namespace {

constexpr c10::DeviceIndex kNumDevices = 4;  // of one host

thread_local c10::DeviceIndex current_device = 0;
thread_local std::array<c10::StreamId, kNumDevices> current_streams = {};

/// Blocks by address, so that each can be asked for its size.
class Blocks {
 public:
  void* take(size_t bytes) {
    if (bytes == 0) return nullptr;
    void* address = nullptr;
    TORCH_CHECK(posix_memalign(&address, 512, bytes) == 0, "no memory for ", bytes, " bytes");
    const std::lock_guard lock(mutex_);
    sizes_[address] = bytes;
    current_ += static_cast<int64_t>(bytes);
    peak_ = std::max(peak_, current_);
    return address;
  }
  void give_back(void* address) {
    if (address == nullptr) return;
    {
      const std::lock_guard lock(mutex_);
      const auto found = sizes_.find(address);
      current_ -= static_cast<int64_t>(found->second);
      sizes_.erase(found);
    }
    std::free(address);
  }
  bool holds(const void* address) {
    const std::lock_guard lock(mutex_);
    const auto after = sizes_.upper_bound(const_cast<void*>(address));
    if (after == sizes_.begin()) return false;
    const auto& [begin, size] = *std::prev(after);
    return static_cast<const char*>(address) < static_cast<const char*>(begin) + size;
  }
  int64_t peak() {
    const std::lock_guard lock(mutex_);
    return peak_;
  }

 private:
  std::mutex mutex_;
  std::map<void*, size_t> sizes_;
  int64_t current_ = 0, peak_ = 0;
};

// Never destroyed: tensors of static variables give their memory back after everything else.
Blocks& device_blocks() {
  static auto* blocks = new Blocks;
  return *blocks;
}
Blocks& pinned_blocks() {
  static auto* blocks = new Blocks;
  return *blocks;
}

struct DeviceMemory : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* address = device_blocks().take(bytes);
    return {address, address, raw_deleter(), c10::Device(c10::kCUDA, current_device)};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return [](void* address) { device_blocks().give_back(address); };
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    c10::CachingDeviceAllocator::DeviceStats stats;
    for (auto& stat : stats.allocated_bytes) stat.peak = device_blocks().peak();
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override {}
};

struct PinnedMemory : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* address = pinned_blocks().take(bytes);
    return {address, address, raw_deleter(), c10::kCPU};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return [](void* address) { pinned_blocks().give_back(address); };
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

/// Streams are numbers: what is enqueued has been done when the call returns.
struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::kCUDA; }
  c10::Device getDevice() const override { return {c10::kCUDA, current_device}; }
  void setDevice(c10::Device device) const override { uncheckedSetDevice(device); }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.index() >= 0) current_device = device.index();
  }
  c10::Device exchangeDevice(c10::Device device) const override {
    const c10::Device before = getDevice();
    setDevice(device);
    return before;
  }
  c10::DeviceIndex deviceCount() const noexcept override { return kNumDevices; }

  c10::Stream getStream(c10::Device device) const override {
    const c10::Device whole = with_index(device);
    return c10::Stream(c10::Stream::UNSAFE, whole,
                       current_streams.at(static_cast<size_t>(whole.index())));
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, with_index(device));
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override {
    static std::atomic<c10::StreamId> next{1};
    return c10::Stream(c10::Stream::UNSAFE, with_index(device), next++);
  }
  c10::Stream getNewStream(c10::Device device, int) const override {
    return getStreamFromGlobalPool(device, false);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const c10::Stream before = getStream(stream.device());
    current_streams.at(static_cast<size_t>(stream.device_index())) = stream.id();
    return before;
  }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override { touch("wait: for a stream"); }
  void synchronizeDevice(c10::DeviceIndex) const override { touch("wait: for the device"); }

  void record(void** event, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {
    if (*event == nullptr) *event = new char;
  }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override {
    delete static_cast<char*>(event);
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override { touch("wait: for an event"); }
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}

 private:
  c10::Device with_index(c10::Device device) const {
    return device.has_index() ? device : getDevice();
  }
};

struct Hooks : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  int getNumGPUs() const override { return kNumDevices; }
  c10::DeviceIndex deviceCount() const override { return kNumDevices; }
  c10::DeviceIndex current_device() const override { return pretend_gpu::current_device; }
  c10::DeviceIndex getCurrentDevice() const override { return pretend_gpu::current_device; }
  c10::Allocator* getPinnedMemoryAllocator() const override { return pinned_memory(); }
  bool isPinnedPtr(const void* address) const override { return is_pinned(address); }
  void deviceSynchronize(c10::DeviceIndex) const override { touch("wait: for the device"); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override {
    static std::array<at::Generator, kNumDevices> generators = [] {
      std::array<at::Generator, kNumDevices> all;
      for (at::Generator& generator : all) generator = at::detail::createCPUGenerator();
      return all;
    }();
    return generators.at(static_cast<size_t>(std::max<c10::DeviceIndex>(index, 0)));
  }
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard);
const c10::AllocatorRegisterer<c10::kCUDA> registered(device_memory());

}  // namespace

c10::Allocator* device_memory() {
  static auto* memory = new DeviceMemory;
  return memory;
}
c10::Allocator* pinned_memory() {
  static auto* memory = new PinnedMemory;
  return memory;
}
bool is_pinned(const void* address) { return pinned_blocks().holds(address); }

}  // namespace lorikeet::pretend_gpu

namespace at {
// By this name LibTorch looks for what its CUDA half registers.
using CUDAHooks = lorikeet::pretend_gpu::Hooks;
REGISTER_CUDA_HOOKS(CUDAHooks);
}  // namespace at
