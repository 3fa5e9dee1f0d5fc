"""Our model against the PyTorch statement of the formulas, with equal weights: logits, and the gradient of every
parameter, for dense, causal segment, prefix and sequence routing.

    lory_pytorch_check.py MODEL_PROBE PEERS_FOLDER

Exit code 77 (skipped) where the peer is missing."""
import json
import pathlib
import subprocess
import sys
import tempfile

probe, peers = sys.argv[1], pathlib.Path(sys.argv[2])
if not (peers / "lory_pytorch.py").exists():
    print(f"skipped: no lory_pytorch.py in {peers}")
    sys.exit(77)
sys.path.insert(0, str(peers))
import torch
from lory_pytorch import LM, Cfg
from safetensors.torch import load_file, save_file

# fp32 sums of up to a few hundred terms in another order: rounding errors of about 1e-6 of the largest term.
TOLERANCE = 1e-5
ROUTING = {"causal": "causal_segment", "prefix": "prefix", "smear": "sequence"}


def our_names(model, layers, routing):
    """(our name, peer's parameter) for all parameters."""
    yield "model.embed_tokens.weight", model.embed.weight
    yield "model.norm.weight", model.norm.weight
    yield "lm_head.weight", model.head.weight
    for i in range(layers):
        block, ours = model.blocks[i], f"model.layers.{i}."
        yield ours + "input_layernorm.weight", block.n1.weight
        yield ours + "post_attention_layernorm.weight", block.n2.weight
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield ours + f"self_attn.{name}.weight", getattr(block.attn, name).weight
        if routing == "dense":
            for name in ("gate", "up", "down"):
                yield ours + f"mlp.{name}_proj.weight", getattr(block.ffn, name).weight
        else:
            yield ours + "mlp.router.weight", block.ffn.router.weight
            for name in ("gate", "up", "down"):
                yield ours + f"mlp.experts.{name}_proj.weight", getattr(block.ffn, name)


def config_json(c):
    config = {"model_type": "llama", "hidden_size": c.dim, "num_hidden_layers": c.layers, "num_attention_heads": c.heads,
              "num_key_value_heads": c.heads, "intermediate_size": c.ffn, "vocab_size": c.vocab,
              "max_position_embeddings": c.ctx, "rms_norm_eps": c.eps, "rope_theta": c.theta, "tie_word_embeddings": False}
    if c.routing != "dense":
        config |= {"model_type": "lorikeet", "num_experts": c.experts, "segment_length": c.segment,
                   "routing": ROUTING[c.routing], "first_segment": "self_stop_gradient"}
    return config


def largest_error(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max().clamp_min(1e-30)).item()


def check(routing, folder):
    torch.manual_seed(0)
    c = Cfg(vocab=96, dim=32, layers=3, heads=4, ffn=48, experts=4, segment=8, ctx=32, routing=routing)
    model = LM(c)
    with torch.no_grad():
        for name, p in model.named_parameters():  # far from symmetric: norms, routers and attention all matter
            p.copy_(torch.randn_like(p) * (0.5 if "router" in name else 0.2) + (1 if p.dim() == 1 else 0))
    ids = torch.randint(0, c.vocab, (3, c.ctx + 1))
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_json(c)))
    save_file({n: p.detach().contiguous() for n, p in our_names(model, c.layers, routing)}, folder / "model.safetensors")
    save_file({"ids": ids}, folder / "ids.safetensors")
    subprocess.run([probe, folder, folder / "ids.safetensors", folder / "out.safetensors"], check=True)
    ours = load_file(folder / "out.safetensors")

    logits = model(ids[:, :-1])
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    errors = {"logits": largest_error(ours["logits"], logits.detach()), "loss": largest_error(ours["loss"], loss.detach())}
    for name, p in our_names(model, c.layers, routing):
        errors["grad " + name] = largest_error(ours["grad." + name], p.grad)
    worst = max(errors, key=errors.get)
    print(f"{routing}: {len(errors)} tensors, largest error {errors[worst]:.2e} of the largest value, in {worst}")
    return errors[worst] <= TOLERANCE


with tempfile.TemporaryDirectory() as folder:
    passed = [check(routing, pathlib.Path(folder) / routing) for routing in ("dense", "causal", "prefix", "smear")]
print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
sys.exit(0 if all(passed) else 1)
