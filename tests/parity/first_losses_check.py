"""The first 20 training losses of the real program against the PyTorch statement of the formulas with torch.optim.AdamW,
from equal weights on equal batches: dense and causal segment routing, micro-batches accumulated on our side alone.

    first_losses_check.py LORIKEET BATCH_PROBE PEERS_FOLDER

Exit code 77 (skipped) where the peer is missing."""
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile

lorikeet, batch_probe, peers = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
if not (peers / "lory_pytorch.py").exists():
    print(f"skipped: no lory_pytorch.py in {peers}")
    sys.exit(77)
sys.path.insert(0, str(peers))
import torch
from lory_pytorch import LM, Cfg
from safetensors.torch import load_file

STEPS, BATCH, CONTEXT, VOCAB, SEED, PEAK, WARMUP, FINAL = 20, 8, 64, 400, 3, 1e-2, 5, 0.1
TOLERANCE = 1e-4  # nats; and relative for gradient norms. Rounding errors of fp32 grow a little with every step.


def run(*command):
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def make_data(folder):
    words = random.Random(1)
    syllables = "ba kor tri len su mo pha rin te vol qua ni dre xi gol um".split()
    with open(folder / "text.jsonl", "w") as out:
        for _ in range(400):
            text = " ".join("".join(words.choices(syllables, k=2)) for _ in range(words.randint(5, 60)))
            out.write(json.dumps({"text": text}) + "\n")
    run(lorikeet, "data", "tokenizer", "--input", folder / "text.jsonl", "--output", folder / "tok.model",
        "--vocab-size", VOCAB)
    run(lorikeet, "data", "tokenize", "--input", folder / "text.jsonl", "--tokenizer", folder / "tok.model",
        "--output", folder / "shards")
    run(batch_probe, folder / "shards", CONTEXT, SEED, STEPS * BATCH, folder / "ids.safetensors")


def pretrain(folder, name, kind, steps, peak):
    """Weights at the end, and the logged steps."""
    (folder / "run.yaml").write_text(f"""
name: {name}
output: {folder}
seed: {SEED}
model: {{hidden_size: 32, num_layers: 2, num_heads: 4, ffn_size: 48, vocab_size: {VOCAB}, context_length: {CONTEXT},
  init_std: 0.1, feed_forward: {{kind: {kind}, num_experts: 4, segment_length: 16, router_init_std: 0.5}}}}
data: {{shards: {folder}/shards}}
train: {{device: cpu, steps: {steps}, batch_sequences: {BATCH}, micro_batch: 2}}
schedule: {{kind: cosine, peak: {peak}, warmup: {min(WARMUP, steps)}steps, final_fraction: {FINAL}}}
evaluate: {{every: never}}
log: {{every: 1steps, tensorboard: false, peak_flops: 1.0e+9}}
""")
    run(lorikeet, "pretrain", folder / "run.yaml")
    rows = [json.loads(line) for line in open(folder / name / "metrics.jsonl")]
    return load_file(folder / name / "model/model.safetensors"), [row for row in rows if "loss" in row]


def peer_name(ours):
    """The peer's parameter for our tensor name."""
    for old, new in (("model.embed_tokens", "embed"), ("model.norm", "norm"), ("lm_head", "head"), ("model.layers", "blocks"),
                     ("input_layernorm", "n1"), ("post_attention_layernorm", "n2"), ("self_attn", "attn"),
                     ("mlp.router", "ffn.router")):
        ours = ours.replace(old, new)
    for name in ("gate", "up", "down"):
        ours = ours.replace(f"mlp.experts.{name}_proj.weight", f"ffn.{name}").replace(f"mlp.{name}_proj", f"ffn.{name}")
    return ours


def rate(step):
    ramp = min(1, (step + 1) / WARMUP)
    return PEAK * ramp * (FINAL + (1 - FINAL) * (1 + math.cos(math.pi * step / STEPS)) / 2)


def peer_steps(weights, routing, ids):
    model = LM(Cfg(vocab=VOCAB, dim=32, layers=2, heads=4, ffn=48, experts=4, segment=16, ctx=CONTEXT, routing=routing))
    model.load_state_dict({peer_name(name): tensor for name, tensor in weights.items()})
    groups = [{"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
              {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.95), eps=1e-8)
    for step in range(STEPS):
        batch = ids[step * BATCH:(step + 1) * BATCH]
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        loss = model.loss(batch[:, :-1], batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss.item(), norm.item()


def check(folder, kind, routing):
    # A learning rate of nearly nothing leaves the initial weights.
    weights, _ = pretrain(folder, f"{kind}_start", kind, 1, "1.0e-30")
    _, ours = pretrain(folder, kind, kind, STEPS, PEAK)
    theirs = list(peer_steps(weights, routing, load_file(folder / "ids.safetensors")["ids"]))
    assert len(ours) == len(theirs) == STEPS
    worst_loss = max(abs(row["loss"] - loss) for row, (loss, _) in zip(ours, theirs))
    worst_norm = max(abs(row["grad_norm"] / norm - 1) for row, (_, norm) in zip(ours, theirs))
    num_clipped = sum(norm > 1 for _, norm in theirs)
    print(f"{kind}: losses {theirs[0][0]:.4f} to {theirs[-1][0]:.4f}, {num_clipped} of {STEPS} steps clipped; largest "
          f"difference {worst_loss:.1e} nats, of gradient norms {worst_norm:.1e} of their size")
    is_telling = theirs[-1][0] < theirs[0][0] - 0.3 and num_clipped > 0
    if not is_telling:
        print(f"{kind}: the run learns or clips too little to tell anything")
    return is_telling and worst_loss <= TOLERANCE and worst_norm <= 10 * TOLERANCE


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    make_data(folder)
    passed = [check(folder, kind, routing) for kind, routing in (("dense", "dense"), ("merged", "causal"))]
print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
sys.exit(0 if all(passed) else 1)
