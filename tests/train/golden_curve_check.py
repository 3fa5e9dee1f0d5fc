#!/usr/bin/env python3
"""The first 50 losses of configs/small.yaml on the shared corpus against golden_small_causal.json.

    golden_curve_check.py LORIKEET_PROGRAM SOURCE_FOLDER SHARED_FOLDER

A change that should not alter training must not alter this curve. Exits 77 (skipped) where the corpus is
missing. The run is stopped with SIGTERM after the fiftieth step, since the schedule of a shorter one would
differ.

Tolerance: bf16 products round differently for another number of threads, another processor or another
kernel, and training amplifies that. The stored curve was made with kernel: reference and one thread; the tiled
kernel with two threads came within 1.1e-2 at every step and 1.0e-3 in the mean. The bounds leave five to ten
times that, and still tell this model from the nearest wrong one: independent initialisation differs by several
tenths of a nat.
"""

import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
EACH = 0.05  # nats, any step
MEAN = 0.01  # nats, the mean of all steps


def losses(folder):
    path = os.path.join(folder, "metrics.jsonl")
    if not os.path.exists(path):
        return []
    with open(path) as file:
        rows = [json.loads(line) for line in file if line.endswith("\n")]
    return [row["loss"] for row in rows if "loss" in row]


def train(program, source, files, folder, count):
    tokenizer, shards = folder + "/tokenizer.model", folder + "/shards"
    data = [program, "data"]
    subprocess.run([*data, "tokenizer", "--input", *files, "--vocab-size", "8192", "--sample-bytes", "30M",
                    "--output", tokenizer], check=True)
    subprocess.run([*data, "tokenize", "--input", *files, "--tokenizer", tokenizer, "--held-out", "4%",
                    "--output", shards], check=True)
    run = subprocess.Popen([program, "pretrain", source + "/configs/small.yaml", "--set", "data.shards=" + shards,
                            "--set", "output=" + folder, "--set", "checkpoint.every=never",
                            "--set", "evaluate.every=never"])
    try:
        while run.poll() is None and len(losses(folder + "/small_causal")) < count:
            time.sleep(0.2)
        run.send_signal(signal.SIGTERM)
        assert run.wait(120) == 75, f"exit code {run.returncode} instead of 75"
    finally:
        run.kill()
    return losses(folder + "/small_causal")[:count]


def main():
    program, source, shared = sys.argv[1:4]
    files = sorted(glob.glob(os.path.join(shared, "data/corpus/*.jsonl.gz")))
    if not files:
        print("skipped: the shared corpus is missing; set LORIKEET_SHARED")
        return SKIPPED
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden_small_causal.json")) as file:
        golden = json.load(file)["losses"]
    with tempfile.TemporaryDirectory() as folder:
        ours = train(program, source, files, folder, len(golden))
    assert len(ours) == len(golden), f"{len(ours)} steps instead of {len(golden)}"
    differences = [abs(a - b) for a, b in zip(ours, golden)]
    mean = sum(a - b for a, b in zip(ours, golden)) / len(golden)
    print(f"largest difference {max(differences):.2e} at step {differences.index(max(differences)) + 1}, mean {mean:.2e}")
    assert max(differences) < EACH, f"a loss differs by more than {EACH}"
    assert abs(mean) < MEAN, f"the mean differs by more than {MEAN}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
