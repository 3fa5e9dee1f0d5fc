#pragma once
#include "lorikeet/config/model_config.h"
#include "rule.h"

namespace lorikeet {

// The model's part of schema.h.

template <class Visitor>
void describe(Visitor& v, SmearConfig& c) {
  v.field("input_norm", c.input_norm, Any{}, "LayerNorm on the pooled input.");
  v.field("router_norm", c.router_norm, Any{},
          "Router rows layer-normalised over hidden_size, times a learned gain.");
  v.field("router_bias", c.router_bias, Any{}, "A bias on the router.");
  v.field("expert_dropout", c.expert_dropout, Real{.max = 1, .max_allowed = false},
          "Share of experts dropped for each decision in training; the rest is renormalised.");
}

template <class Visitor>
void describe(Visitor& v, FeedForwardConfig& c) {
  v.field("kind", c.kind, Any{},
          "One feed-forward layer, or merged experts (Lory). The other "
          "keys here are for merged experts.");
  v.field("num_experts", c.num_experts, Whole{1, 4096}, "Experts in each layer.");
  v.field("segment_length", c.segment_length, Whole{1, 1 << 24},
          "Tokens that share one routing decision; divides `context_length`.");
  v.field("routing", c.routing, Any{},
          "Which tokens decide a segment's routing weights: the segment before it (Lory), the "
          "first segment, or the whole sequence (SMEAR; not causal).");
  v.field("first_segment", c.first_segment, Any{},
          "What routes the first segment: itself without gradient (Lory; lets its tokens see later "
          "ones through the weights), uniform weights, or a learned prior.");
  v.field("segment_scope", c.segment_scope, Any{},
          "Whether segments and routing start with each context (Lory) or with each document.");
  v.field("expert_init", c.expert_init, Any{},
          "Experts drawn so that the merged weights have a dense layer's variance, each like a "
          "dense layer, or all the same.");
  v.field("router_init_std", c.router_init_std, Real{.max = 100},
          "Standard deviation of the router's initial weights.");
  v.field("kernel", c.kernel, Any{},
          "The implementation of layers and loss: the fastest there is, or the "
          "plain one.");
  v.section("smear", c.smear,
            "Options of SMEAR, for `routing: sequence`; all off is the plain form.");
}

template <class Visitor>
void describe(Visitor& v, ModelConfig& c) {
  v.field("hidden_size", c.hidden_size, Whole{1, 1 << 20}, "Width of the residual stream.");
  v.field("num_layers", c.num_layers, Whole{1, 10'000}, "Blocks.");
  v.field("num_heads", c.num_heads, Whole{1, 1 << 16}, "Attention heads.");
  v.field("num_kv_heads", c.num_kv_heads, Whole{1, 1 << 16, "auto"},
          "Key and value heads; divides `num_heads`. `auto`: as many as those.");
  v.field("head_dim", c.head_dim, Whole{1, 1 << 16, "auto"},
          "Width of a head, even. `auto`: hidden_size / num_heads.");
  v.field("ffn_size", c.ffn_size, Whole{1, 1 << 24},
          "Width of a feed-forward layer, and of each expert.");
  v.field("vocab_size", c.vocab_size, Whole{1, 1 << 24}, "Token ids; at least the tokenizer's.");
  v.field("context_length", c.context_length, Whole{1, 1 << 24}, "Tokens in a sequence.");
  v.field("rope_theta", c.rope_theta, Real{.min = 1, .max = 1e12},
          "Base of the rotary position embedding.");
  v.field("norm_eps", c.norm_eps, Real{.max = 1}, "Added to the mean square in RMSNorm.");
  v.field("tie_embeddings", c.tie_embeddings, Any{},
          "Input and output embeddings are the same matrix.");
  v.field("qk_norm", c.qk_norm, Any{},
          "RMSNorm on queries and keys: none, over the full projection, or over each head.");
  v.field("attention_scope", c.attention_scope, Any{},
          "Whether tokens attend to the whole context or to their own document only.");
  v.field("init_std", c.init_std, Real{.min = 1e-8, .max = 100},
          "Standard deviation of the initial weights.");
  v.field("init_truncation", c.init_truncation, Real{.max = 100},
          "Where their distribution is cut, in standard deviations. 0: not cut.");
  v.section("feed_forward", c.feed_forward, "The feed-forward layer of every block.");
}

}  // namespace lorikeet
