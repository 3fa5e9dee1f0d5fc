#pragma once
#include <ATen/core/dispatch/Dispatcher.h>

namespace lorikeet::ops {

/// The operator of that name, to be called through the dispatcher; keep it in a static.
template <class Function>
auto find_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Function>();
}

}  // namespace lorikeet::ops
