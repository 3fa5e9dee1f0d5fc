#include <nlohmann/json.hpp>

#include "lorikeet/config/names.h"
#include "lorikeet/storage/model_directory.h"

namespace lorikeet {

namespace {

using OrderedJson = nlohmann::ordered_json;

/// Anything that Hugging Face's LLaMA does not compute.
bool is_extended(const ModelConfig& config) {
  return config.is_merged() || config.qk_norm != QkNorm::kNone ||
         config.attention_scope != Scope::kContext;
}

std::string dtype_text(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return "float64";
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    default:
      return "float32";
  }
}

OrderedJson id_or_null(const std::optional<int64_t>& id) {
  return id ? OrderedJson(*id) : OrderedJson(nullptr);
}

void add_llama_keys(OrderedJson& json, const ModelConfig& config, const ModelConfigNotes& notes) {
  json["hidden_size"] = config.hidden_size;
  json["num_hidden_layers"] = config.num_layers;
  json["num_attention_heads"] = config.num_heads;
  json["num_key_value_heads"] = config.kv_heads();
  json["head_dim"] = config.head_size();
  json["intermediate_size"] = config.ffn_size;
  json["vocab_size"] = config.vocab_size;
  json["max_position_embeddings"] = config.context_length;
  json["rms_norm_eps"] = config.norm_eps;
  json["rope_theta"] = config.rope_theta;  // transformers 4
  json["rope_parameters"] = {{"rope_theta", config.rope_theta}, {"rope_type", "default"}};  // 5
  json["tie_word_embeddings"] = config.tie_embeddings;
  json["hidden_act"] = "silu";
  json["attention_bias"] = false;
  json["attention_dropout"] = 0.0;
  json["mlp_bias"] = false;
  json["torch_dtype"] = dtype_text(notes.dtype);  // transformers 4
  json["dtype"] = dtype_text(notes.dtype);        // 5
  // Absent ids would be taken for 1 and 2.
  json["bos_token_id"] = id_or_null(notes.bos_token_id);
  json["eos_token_id"] = id_or_null(notes.eos_token_id);
}

void add_own_keys(OrderedJson& json, const ModelConfig& config) {
  const FeedForwardConfig& ffn = config.feed_forward;
  json["qk_norm"] = to_string(config.qk_norm);
  json["attention_scope"] = to_string(config.attention_scope);
  json["feed_forward"] = to_string(ffn.kind);
  if (!config.is_merged()) return;
  json["num_experts"] = ffn.num_experts;
  json["segment_length"] = ffn.segment_length;
  json["routing"] = to_string(ffn.routing);
  json["first_segment"] = to_string(ffn.first_segment);
  json["segment_scope"] = to_string(ffn.segment_scope);
  json["smear"] = {{"input_norm", ffn.smear.input_norm},
                   {"router_norm", ffn.smear.router_norm},
                   {"router_bias", ffn.smear.router_bias},
                   {"expert_dropout", ffn.smear.expert_dropout}};
}

}  // namespace

std::string model_config_json(const ModelConfig& config, const ModelConfigNotes& notes) {
  OrderedJson json;
  const bool is_own = is_extended(config);
  json["model_type"] = is_own ? "lorikeet" : "llama";
  json["architectures"] = {is_own ? "LorikeetForCausalLM" : "LlamaForCausalLM"};
  add_llama_keys(json, config, notes);
  if (is_own) add_own_keys(json, config);
  return json.dump(2) + "\n";
}

}  // namespace lorikeet
