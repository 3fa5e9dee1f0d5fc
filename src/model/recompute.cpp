#include "lorikeet/model/recompute.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/custom_class.h>

#include <utility>

namespace lorikeet {

namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Puts the default generators where they were, and back afterwards.
class RandomState {
 public:
  explicit RandomState(torch::Device device) : device_(device) {
    for (auto& generator : generators()) states_.push_back(generator.get_state());
  }
  void restore() const {
    auto all = generators();
    for (size_t i = 0; i < all.size(); ++i) all[i].set_state(states_[i]);
  }

 private:
  std::vector<at::Generator> generators() const {
    std::vector<at::Generator> all{at::detail::getDefaultCPUGenerator()};
    if (device_.is_cuda()) all.push_back(at::globalContext().defaultGenerator(device_));
    return all;
  }
  torch::Device device_;
  std::vector<Tensor> states_;
};

struct Saved : torch::CustomClassHolder {
  Saved(std::function<RecomputeOutput(const Tensor&)> function, std::vector<Tensor> leaves,
        torch::Device device)
      : body(std::move(function)), parameters(std::move(leaves)), random(device) {}
  std::function<RecomputeOutput(const Tensor&)> body;
  std::vector<Tensor> parameters;
  RandomState random;
};

struct Recompute : torch::autograd::Function<Recompute> {
  // The parameters are arguments (as a TensorList: a vector would count as one non-tensor) so that
  // the graph leads to them.
  static variable_list forward(AutogradContext* context, const Tensor& x,
                               const c10::intrusive_ptr<Saved>& saved, at::TensorList) {
    context->save_for_backward({x});
    context->saved_data["saved"] = at::IValue::make_capsule(saved);
    RecomputeOutput output = saved->body(x);
    variable_list results{output.y};
    if (output.record.defined()) {
      context->mark_non_differentiable({output.record});
      results.push_back(output.record);
    }
    return results;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved =
        c10::static_intrusive_pointer_cast<Saved>(context->saved_data["saved"].toCapsule());
    const Tensor x = context->get_saved_variables()[0].detach().requires_grad_(true);
    Tensor y;
    {
      const RandomState now(x.device());
      saved->random.restore();
      const at::AutoGradMode with_graph(true);
      y = saved->body(x).y;
      now.restore();
    }
    variable_list inputs{x};
    inputs.insert(inputs.end(), saved->parameters.begin(), saved->parameters.end());
    const auto gradients = torch::autograd::grad({y}, inputs, {grads[0]}, std::nullopt,
                                                 /*create_graph=*/false, /*allow_unused=*/true);
    variable_list results{gradients[0], Tensor()};  // nothing for `saved`
    results.insert(results.end(), gradients.begin() + 1, gradients.end());
    return results;
  }
};

}  // namespace

RecomputeOutput recompute(const std::function<RecomputeOutput(const Tensor&)>& body,
                          const Tensor& x, const std::vector<Tensor>& parameters) {
  if (!torch::GradMode::is_enabled()) return body(x);
  const auto saved = c10::make_intrusive<Saved>(body, parameters, x.device());
  const variable_list results = Recompute::apply(x, saved, at::TensorList(parameters));
  return {results[0], results.size() > 1 ? results[1] : Tensor()};
}

}  // namespace lorikeet
