#!/usr/bin/env python3
"""A training step of ours against plain PyTorch, in turns on one machine, as the tables of docs/performance.md.

    scripts/step_against_pytorch.py PEERS [--program build/lorikeet] [--dtypes bf16 fp32] [--steps 4] [--no-compile]
    scripts/step_against_pytorch.py PEERS --profile bf16

PEERS is the folder with bench_step.py, which takes the same step in PyTorch (lory_pytorch.py states the model). Run it with
a Python that has PyTorch. --profile prints where PyTorch's eager step spends its processor time, by kind of operation.
"""

import argparse
import json
import os
import re
import subprocess
import sys

# The first pattern that an operator's name matches gives its kind.
KINDS = [
    ("attention", "attention|flash"),
    ("products", "mm|bmm|linear|mkl|matmul"),
    ("optimizer", "adam"),
    ("clipping", "norm(?!_)|_foreach"),
    ("casts and copies", "copy|_to_copy|contiguous|cat|clone"),
    ("softmax, loss", "softmax|nll|cross_entropy|log"),
    ("embedding", "embedding|index"),
    ("elementwise and sums", "."),
]


def ours(program, *options):
    done = subprocess.run([program, "bench", "step", "--json", *options], check=True, capture_output=True, text=True)
    row = json.loads(done.stdout)
    return {"speed": row["tokens_per_second"], "memory": row["peak_memory_bytes"],
            "share": row["matrix_flops_per_second"] / (row["micro_kernel_flops_per_second"] or float("nan"))}


def theirs(peers, *options):
    done = subprocess.run([sys.executable, os.path.join(peers, "bench_step.py"), *options], check=True,
                          capture_output=True, text=True)
    speed = float(re.search(r"tok/s (\d+)", done.stdout)[1])
    return {"speed": speed, "memory": 1e9 * float(re.search(r"rss ([\d.]+)GB", done.stdout)[1])}


def compare(options):
    print("| | ours, tokens/s | memory, GB | of the micro-kernel | PyTorch eager | memory, GB | compiled | as fast as the better "
          "| memory of eager's |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for dtype in options.dtypes:
        for experts in (8, 32, 0):
            steps = ["--steps", str(options.steps)]
            mine = ours(options.program, "--dtype", dtype, "--experts", str(experts), "--repetitions", str(options.steps))
            how = ["--routing", "dense"] if experts == 0 else ["--experts", str(experts)]
            how += ["--bf16"] if dtype == "bf16" else []
            eager = theirs(options.peers, *how, *steps)
            compiled = None if options.no_compile else theirs(options.peers, *how, *steps, "--compile")
            best = max(eager["speed"], compiled["speed"] if compiled else 0)
            print(f"| {'dense' if experts == 0 else str(experts) + 'E'} {dtype} | {mine['speed']:,.0f} | {mine['memory'] / 1e9:.2f} "
                  f"| {mine['share']:.0%} | {eager['speed']:,.0f} | {eager['memory'] / 1e9:.2f} "
                  f"| {format(compiled['speed'], ',.0f') if compiled else '-'} | {mine['speed'] / best:.2f} "
                  f"| {mine['memory'] / eager['memory']:.2f} |", flush=True)


def profile(options):
    sys.path.insert(0, options.peers)
    import torch
    from lory_pytorch import LM, Cfg
    torch.manual_seed(0)
    torch.set_num_threads(2)
    model = LM(Cfg(routing="causal", experts=8, ctx=1024, layers=8, vocab=8192))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(.9, .95), weight_decay=.1, fused=True)
    ids = torch.randint(0, 8192, (4, 1025))

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=options.profile == "bf16"):
            loss = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as trace:
        step()
    sums = {}
    for event in trace.key_averages():
        kind = next(kind for kind, pattern in KINDS if re.search(pattern, event.key, re.IGNORECASE))
        sums[kind] = sums.get(kind, 0) + event.self_cpu_time_total / 1e3
    whole = sum(sums.values())
    print("| kind of operation | ms | |\n|---|---:|---:|")
    for kind, time in sorted(sums.items(), key=lambda pair: -pair[1]):
        print(f"| {kind} | {time:,.0f} | {time / whole:.1%} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers")
    parser.add_argument("--program", default="build/lorikeet")
    parser.add_argument("--dtypes", nargs="+", default=["bf16", "fp32"], choices=["bf16", "fp32"])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--profile", choices=["bf16", "fp32"])
    options = parser.parse_args()
    profile(options) if options.profile else compare(options)


if __name__ == "__main__":
    main()
