#include "lorikeet/ops/gradient_sink.h"

#include <utility>

namespace lorikeet::ops {

namespace {
thread_local GradientSink* current = nullptr;
}

GradientSink* gradient_sink() { return current; }
GradientSink* set_gradient_sink(GradientSink* sink) { return std::exchange(current, sink); }

}  // namespace lorikeet::ops
