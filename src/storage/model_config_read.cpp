#include <limits>

#include "json.h"
#include "lorikeet/config/names.h"
#include "lorikeet/config/validate.h"
#include "lorikeet/storage/model_directory.h"

namespace lorikeet {

using storage::Json;
using storage::shown;

namespace {

constexpr int kConfigDepth = 16;  // generation settings and the like nest a little
constexpr const char* kTypeHint = "correct this key in config.json, or fetch the file again";
// What our model does not compute cannot be mended in the file.
constexpr const char* kUnsupportedHint =
    "use a plain LLaMA model, or one that lorikeet trained; another value here would not fit the "
    "weights";
constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();

/// The keys of config.json with their types checked. A null is the same as absent, as in Hugging
/// Face's code.
class Keys {
 public:
  Keys(std::string where, const Json& json) : where_(std::move(where)), json_(json) {}

  [[noreturn]] void refuse(const std::string& key, const std::string& rule,
                           const std::string& hint) const {
    throw Error(ExitCode::kCheckpoint, fmt::format("{}: {}: {}", where_, key, rule), hint);
  }
  const Json* find(const std::string& key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  const Json& need(const std::string& key) const {
    const Json* value = find(key);
    if (value == nullptr) {
      refuse(key, "is missing and has no default",
             "config.json must be the one that was written with the weights");
    }
    return *value;
  }
  /// A size: a whole number from 1 on.
  int64_t count(const std::string& key) const { return as_count(key, need(key)); }
  int64_t count(const std::string& key, int64_t absent) const {
    const Json* value = find(key);
    return value == nullptr ? absent : as_count(key, *value);
  }
  double number(const std::string& key, double absent) const {
    const Json* value = find(key);
    if (value == nullptr) return absent;
    if (!value->is_number()) refuse(key, shown(*value) + " is not a number", kTypeHint);
    return value->get<double>();
  }
  bool flag(const std::string& key, bool absent) const {
    const Json* value = find(key);
    if (value == nullptr) return absent;
    if (!value->is_boolean()) refuse(key, shown(*value) + " is not true or false", kTypeHint);
    return value->get<bool>();
  }
  std::string text(const std::string& key, const std::string& absent) const {
    const Json* value = find(key);
    if (value == nullptr) return absent;
    if (!value->is_string()) refuse(key, shown(*value) + " is not a string", kTypeHint);
    return value->get<std::string>();
  }
  template <NamedEnum E>
  E name(const std::string& key, E absent) const {
    const std::string given = text(key, to_string(absent));
    try {
      return parse_enum<E>(given);
    } catch (const std::invalid_argument& rule) {
      refuse(key, fmt::format("'{}' {}", given, rule.what()), kTypeHint);
    }
  }
  template <NamedEnum E>
  E name(const std::string& key) const {
    need(key);
    return name(key, E{});
  }
  /// The keys inside the object `key`, or none.
  Keys inside(const std::string& key) const {
    static const Json kNone = Json::object();
    const Json* value = find(key);
    if (value == nullptr) return Keys(where_ + ": " + key, kNone);
    if (!value->is_object()) refuse(key, shown(*value) + " is not an object", kTypeHint);
    return Keys(where_ + ": " + key, *value);
  }

 private:
  int64_t as_count(const std::string& key, const Json& value) const {
    if (!value.is_number_unsigned() || value.get<uint64_t>() < 1 ||
        value.get<uint64_t>() > static_cast<uint64_t>(kLargest)) {
      refuse(key, fmt::format("{} is not a whole number from 1 to {}", shown(value), kLargest),
             kTypeHint);
    }
    return value.get<int64_t>();
  }

  std::string where_;
  const Json& json_;
};

/// RoPE variants would need other angles than ours.
void check_rope(const Keys& keys, const std::string& group) {
  const Keys rope = keys.inside(group);
  for (const char* key : {"rope_type", "type"}) {
    const std::string type = rope.text(key, "default");
    if (type != "default") {
      keys.refuse(group, fmt::format("RoPE of type '{}' is not supported, only 'default'", type),
                  kUnsupportedHint);
    }
  }
  if (rope.number("partial_rotary_factor", 1.0) != 1.0) {
    keys.refuse(group, "a partial_rotary_factor other than 1 is not supported", kUnsupportedHint);
  }
  for (const char* layers : {"full_attention", "sliding_attention"}) {
    if (rope.find(layers) != nullptr) {
      keys.refuse(group, "RoPE by kind of layer is not supported", kUnsupportedHint);
    }
  }
}

double read_rope_theta(const Keys& keys) {
  check_rope(keys, "rope_parameters");
  check_rope(keys, "rope_scaling");
  const double outer = keys.number("rope_theta", 10000.0);
  const double inner = keys.inside("rope_parameters").number("rope_theta", outer);
  if (keys.find("rope_theta") != nullptr && outer != inner) {
    keys.refuse("rope_theta", fmt::format("{}, but rope_parameters say {}", outer, inner),
                "keep the one that the model was trained with");
  }
  return inner;
}

/// Settings under which Hugging Face's LLaMA computes something that our model does not.
void refuse_unsupported(const Keys& keys) {
  const std::string activation = keys.text("hidden_act", "silu");
  if (activation != "silu") {
    keys.refuse("hidden_act", fmt::format("'{}' is not supported, only 'silu'", activation),
                kUnsupportedHint);
  }
  for (const char* bias : {"attention_bias", "mlp_bias"}) {
    if (keys.flag(bias, false)) {
      keys.refuse(bias, "true is not supported: there are no biases", kUnsupportedHint);
    }
  }
  if (const Json* window = keys.find("sliding_window");
      window && keys.flag("use_sliding_window", true)) {
    keys.refuse("sliding_window", shown(*window) + ": windowed attention is not supported",
                kUnsupportedHint);
  }
  if (const Json* kinds = keys.find("layer_types"); kinds != nullptr) {
    for (const Json& kind : *kinds) {
      if (kind != "full_attention") {
        keys.refuse("layer_types", shown(kind) + " is not supported, only \"full_attention\"",
                    kUnsupportedHint);
      }
    }
  }
  if (keys.number("partial_rotary_factor", 1.0) != 1.0) {
    keys.refuse("partial_rotary_factor", "other than 1 is not supported", kUnsupportedHint);
  }
  if (keys.find("quantization_config") != nullptr) {
    keys.refuse("quantization_config", "quantised weights are not supported",
                "use the unquantised model");
  }
}

void read_own_keys(const Keys& keys, ModelConfig& config) {
  FeedForwardConfig& ffn = config.feed_forward;
  config.qk_norm = keys.name("qk_norm", QkNorm::kNone);
  config.attention_scope = keys.name("attention_scope", Scope::kContext);
  ffn.kind = keys.name("feed_forward", FeedForwardKind::kMerged);
  if (!config.is_merged()) return;
  ffn.num_experts = keys.count("num_experts");
  ffn.segment_length = keys.count("segment_length");
  ffn.routing = keys.name<Routing>("routing");
  ffn.first_segment = keys.name<FirstSegment>("first_segment");
  ffn.segment_scope = keys.name("segment_scope", Scope::kContext);
  const Keys smear = keys.inside("smear");
  ffn.smear.input_norm = smear.flag("input_norm", false);
  ffn.smear.router_norm = smear.flag("router_norm", false);
  ffn.smear.router_bias = smear.flag("router_bias", false);
  ffn.smear.expert_dropout = smear.number("expert_dropout", 0.0);
}

}  // namespace

ModelConfig read_model_config(const std::string& directory) {
  const std::string path = directory + "/config.json";
  const std::string text = read_text_file(path, ExitCode::kCheckpoint);
  const Json json = storage::parse_json_object(text, path, kConfigDepth);
  const Keys keys(path, json);
  keys.need("model_type");
  const std::string type = keys.text("model_type", "");
  if (type != "llama" && type != "lorikeet") {
    keys.refuse("model_type", fmt::format("'{}' is not supported, only llama and lorikeet", type),
                kUnsupportedHint);
  }
  refuse_unsupported(keys);
  ModelConfig config;
  config.hidden_size = keys.count("hidden_size");
  config.num_layers = keys.count("num_hidden_layers");
  config.num_heads = keys.count("num_attention_heads");
  config.num_kv_heads = keys.count("num_key_value_heads", config.num_heads);
  config.head_dim = keys.count("head_dim", 0);
  config.ffn_size = keys.count("intermediate_size");
  config.vocab_size = keys.count("vocab_size");
  config.context_length = keys.count("max_position_embeddings");
  config.norm_eps = keys.number("rms_norm_eps", 1e-6);
  config.rope_theta = read_rope_theta(keys);
  config.tie_embeddings = keys.flag("tie_word_embeddings", false);
  if (type == "lorikeet") read_own_keys(keys, config);
  validate(config, path, ExitCode::kCheckpoint);
  config.head_dim = config.head_size();
  return config;
}

}  // namespace lorikeet
