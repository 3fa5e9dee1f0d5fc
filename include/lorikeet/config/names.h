#pragma once
#include <fmt/ranges.h>

#include <array>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lorikeet/config/run_config.h"

namespace lorikeet {

/// The names of each enum in configuration files and config.json: lower snake case, in the order of
/// the enum.
template <class E>
inline constexpr auto kEnumNames = nullptr;
template <>
inline constexpr std::array kEnumNames<FeedForwardKind> = {"dense", "merged"};
template <>
inline constexpr std::array kEnumNames<Routing> = {"causal_segment", "prefix", "sequence"};
template <>
inline constexpr std::array kEnumNames<FirstSegment> = {"self_stop_gradient", "uniform", "learned"};
template <>
inline constexpr std::array kEnumNames<Scope> = {"context", "document"};
template <>
inline constexpr std::array kEnumNames<ExpertInit> = {"preserve", "independent", "copied"};
template <>
inline constexpr std::array kEnumNames<Kernel> = {"auto", "reference"};
template <>
inline constexpr std::array kEnumNames<QkNorm> = {"none", "full", "head"};
template <>
inline constexpr std::array kEnumNames<DeviceChoice> = {"auto", "cpu", "cuda"};
template <>
inline constexpr std::array kEnumNames<Precision> = {"fp32", "bf16"};
template <>
inline constexpr std::array kEnumNames<ActivationCheckpointing> = {"none", "attention", "ffn",
                                                                   "block"};
template <>
inline constexpr std::array kEnumNames<ScheduleKind> = {"cosine", "linear", "constant",
                                                        "multi_step", "warmup_stable_decay"};
template <>
inline constexpr std::array kEnumNames<WarmupState> = {"reset", "keep"};
template <>
inline constexpr std::array kEnumNames<SpikeAction> = {"log", "rollback"};

template <class E>
concept NamedEnum = requires {
  kEnumNames<E>.size();
};

template <NamedEnum E>
std::vector<std::string> enum_names() {
  return {kEnumNames<E>.begin(), kEnumNames<E>.end()};
}

template <NamedEnum E>
std::string to_string(E value) {
  return kEnumNames<E>.at(static_cast<size_t>(value));
}

/// @throws std::invalid_argument whose what() is the rule broken: "is not one of context, document"
template <NamedEnum E>
E parse_enum(std::string_view name) {
  for (size_t i = 0; i < kEnumNames<E>.size(); ++i) {
    if (name == kEnumNames<E>[i]) return static_cast<E>(i);
  }
  throw std::invalid_argument(fmt::format("is not one of {}", fmt::join(kEnumNames<E>, ", ")));
}

}  // namespace lorikeet
