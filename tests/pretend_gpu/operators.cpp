// Every operator of LibTorch on the device: the CPU's, on the same memory.
#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/_scaled_dot_product_attention_math.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <torch/library.h>

#include <set>

#include "device.h"
#include "touches.h"

namespace lorikeet::pretend_gpu {

namespace {

using at::Tensor;

std::string describe(const Tensor& tensor) {
  return c10::str(tensor.scalar_type(), " ", tensor.sizes());
}

/// The same memory as a CPU tensor, which keeps it alive.
Tensor on_host(const Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_cuda()) return tensor;
  return at::for_blob(tensor.data_ptr(), tensor.sizes())
      .strides(tensor.strides())
      .context(new Tensor(tensor), [](void* kept) { delete static_cast<Tensor*>(kept); })
      .options(tensor.options().device(at::kCPU))
      .make_tensor();
}

Tensor empty_on(c10::Device device, at::IntArrayRef sizes, at::IntArrayRef strides,
                at::ScalarType dtype) {
  const c10::DeviceGuard guard(device);
  return at::detail::empty_strided_generic(sizes, strides, device_memory(),
                                           c10::DispatchKeySet(c10::DispatchKey::CUDA), dtype);
}

c10::Device device_or_current(std::optional<c10::Device> device) {
  return device && device->has_index() ? *device
                                       : c10::impl::VirtualGuardImpl(c10::kCUDA).getDevice();
}

Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<at::Device> device, std::optional<bool>,
             std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(device_or_current(device));
  return at::detail::empty_generic(sizes, device_memory(),
                                   c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                   c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides,
                     std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                     std::optional<at::Device> device, std::optional<bool>) {
  return empty_on(device_or_current(device), sizes, strides, c10::dtype_or_default(dtype));
}

const Tensor& resize_to(const Tensor& self, at::IntArrayRef sizes,
                        std::optional<at::MemoryFormat>) {
  const c10::Storage& storage = self.storage();
  const size_t bytes = at::detail::computeStorageNbytesContiguous(
      sizes, self.element_size(), static_cast<size_t>(self.storage_offset()));
  if (bytes > storage.nbytes()) {
    const c10::DeviceGuard guard(self.device());
    c10::DataPtr memory = device_memory()->allocate(bytes);
    if (storage.nbytes() > 0) std::memcpy(memory.get(), storage.data(), storage.nbytes());
    storage.set_data_ptr_noswap(std::move(memory));
    storage.set_nbytes(bytes);
  }
  self.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
  return self;
}

/// Between host and device the GPU's queue and the thread wait for each other, unless the host's
/// side is pinned and the caller doesn't ask for the end.
Tensor& copy(Tensor& self, const Tensor& from, bool non_blocking) {
  if (self.is_cpu()) {
    touch("to the host: " + describe(from));
  } else if (from.is_cpu() && !is_pinned(from.data_ptr())) {
    touch("from pageable memory: " + describe(from));
  } else if (from.is_cpu() && !non_blocking) {
    touch("wait: for a copy of " + describe(from));
  }
  on_host(self).copy_(on_host(from));
  return self;
}

at::Scalar item(const Tensor& self) {
  touch("to the host: one number");
  return on_host(self).item();
}

/// Its choice of a form is compiled for each device: the plain one, which is differentiable.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v,
                 const std::optional<Tensor>& mask, double dropout, bool is_causal,
                 std::optional<double> scale, bool enable_gqa) {
  return std::get<0>(at::_scaled_dot_product_attention_math(q, k, v, mask, dropout, is_causal, {},
                                                            scale, enable_gqa));
}

/// The CPU has none. @param rstd  with a last dimension of one
std::tuple<Tensor, Tensor> rms_norm_backward(const Tensor& dy, const Tensor& x, at::IntArrayRef,
                                             const Tensor& rstd,
                                             const std::optional<Tensor>& weight,
                                             std::array<bool, 2> needed) {
  const Tensor normal = x * rstd, g = dy * *weight;
  const Tensor dx = rstd * (g - normal * (g * normal).mean(-1, /*keepdim=*/true));
  const Tensor dweight = (dy * normal).reshape({-1, x.size(-1)}).sum(0);
  return {needed[0] ? dx : Tensor(), needed[1] ? dweight : Tensor()};
}

/// Operators whose result's shape or value the host must know.
bool reads_device(const std::string& name) {
  static const std::set<std::string> kThese = {
      "aten::nonzero",        "aten::nonzero_static",    "aten::masked_select",
      "aten::equal",          "aten::_unique2",          "aten::unique_consecutive",
      "aten::unique_dim",     "aten::repeat_interleave", "aten::bincount",
      "aten::_assert_scalar", "aten::is_nonzero",        "aten::histc"};
  return kThese.contains(name);
}

/// One call's arguments as CPU tensors over the same memory, and its results as device tensors.
class HostCall {
 public:
  HostCall(const c10::OperatorHandle& op, torch::jit::Stack& stack)
      : op_(op), stack_(stack), given_(stack.end() - num_arguments(), stack.end()) {
    for (const c10::IValue& value : given_) find_device(value);
    const bool indexes = name().starts_with("aten::index") || name() == "aten::_index_put_impl_";
    for (size_t i = 0; i < num_arguments(); ++i) {
      c10::IValue& value = stack_[stack_.size() - num_arguments() + i];
      value = lowered(value, indexes && i > 0);
    }
    if (reads_device(name()) && !is_told_size()) touch("wait: " + name());
  }

  void run() {
    torch::jit::Stack sent(stack_.end() - static_cast<int64_t>(num_arguments()), stack_.end());
    op_.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack_);
    for (size_t i = 0; i < num_arguments(); ++i) follow_resize(given_[i], sent[i]);
    const auto& returns = op_.schema().returns();
    for (size_t i = 0; i < returns.size(); ++i) {
      c10::IValue& value = stack_[stack_.size() - returns.size() + i];
      value = returns[i].alias_info() ? argument_of(*returns[i].alias_info()) : raised(value);
    }
  }

 private:
  /// repeat_interleave asks the device for the result's size where it is not given.
  bool is_told_size() const {
    return name() == "aten::repeat_interleave" && given_.size() > 1 && !given_[1].isNone();
  }
  const std::string& name() const { return op_.schema().name(); }
  size_t num_arguments() const { return op_.schema().arguments().size(); }

  void find_device(const c10::IValue& value) {
    if (value.isTensor() && value.toTensor().defined() && value.toTensor().is_cuda()) {
      device_ = value.toTensor().device();
    } else if (value.isList()) {
      for (const c10::IValue& element : value.toListRef()) find_device(element);
    } else if (value.isDevice() && value.toDevice().is_cuda()) {
      device_ = device_or_current(value.toDevice());
    }
  }

  c10::IValue lowered(const c10::IValue& value, bool is_index) {
    if (value.isTensor()) return lower(value.toTensor(), is_index);
    if (value.isDevice()) return c10::Device(at::kCPU);
    if (value.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& tensor : value.toTensorVector()) list.push_back(lower(tensor, false));
      return list;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> list;
      for (const std::optional<Tensor>& tensor : value.toOptionalTensorVector()) {
        list.push_back(tensor ? std::optional(lower(*tensor, true)) : std::nullopt);
      }
      return list;
    }
    return value;
  }

  Tensor lower(const Tensor& tensor, bool is_index) {
    if (!tensor.defined()) return tensor;
    if (is_index && tensor.scalar_type() == at::kBool) touch("wait: " + name() + " by a mask");
    TORCH_CHECK(tensor.is_cuda() || tensor.dim() == 0, name(), ": a tensor on the CPU (",
                describe(tensor), ") beside others on the device");
    // One without room may be a result that finds some; memory of others can't grow.
    if (tensor.numel() == 0) return at::empty(tensor.sizes(), tensor.options().device(at::kCPU));
    return on_host(tensor);
  }

  /// A result that had no room has found it elsewhere.
  static void follow_resize(const c10::IValue& device, const c10::IValue& host) {
    if (!device.isTensor() || !device.toTensor().defined() || !device.toTensor().is_cuda()) return;
    const Tensor &to = device.toTensor(), &from = host.toTensor();
    if (to.data_ptr() == from.data_ptr() && to.sizes() == from.sizes()) return;
    resize_to(to, from.sizes(), {});
    on_host(to).copy_(from);
  }

  const c10::IValue& argument_of(const c10::AliasInfo& alias) const {
    for (size_t i = 0; i < num_arguments(); ++i) {
      const c10::AliasInfo* info = op_.schema().arguments()[i].alias_info();
      if (info && info->beforeSets() == alias.beforeSets()) return given_[i];
    }
    TORCH_CHECK(false, name(), ": a result is a view of no argument");
  }

  c10::IValue raised(const c10::IValue& value) const {
    if (value.isTensor()) return raise(value.toTensor());
    if (value.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& tensor : value.toTensorVector()) list.push_back(raise(tensor));
      return list;
    }
    return value;
  }

  Tensor raise(const Tensor& host) const {
    if (!host.defined()) return host;
    const Tensor result = empty_on(device_, host.sizes(), host.strides(), host.scalar_type());
    on_host(result).copy_(host);
    return result;
  }

  const c10::OperatorHandle& op_;
  torch::jit::Stack& stack_;
  std::vector<c10::IValue> given_;
  c10::Device device_{c10::kCUDA, 0};
};

void on_the_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  HostCall(op, *stack).run();
}

}  // namespace

TORCH_LIBRARY_IMPL(_, CUDA, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>());
}

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("resize_", resize_to);
  library.impl("copy_", copy);
  library.impl("_local_scalar_dense", item);
  library.impl("_fused_rms_norm_backward", rms_norm_backward);
  library.impl("view", TORCH_FN(at::native::view));
  library.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  library.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  library.impl("set_.source_Storage_storage_offset", TORCH_FN(at::native::set_storage_cpu_));
}

TORCH_LIBRARY_IMPL(aten, AutogradCUDA, library) {
  library.impl("scaled_dot_product_attention", attention);
}

}  // namespace lorikeet::pretend_gpu
