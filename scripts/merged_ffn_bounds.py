#!/usr/bin/env python3
"""What bounds merged_ffn on this processor: instructions, FLOPs and bytes, against measured rates and time.

    ninja -C build lorikeet merged_ffn_once memory_rates
    scripts/merged_ffn_bounds.py build instructions      # callgrind: some two minutes for each number of experts
    scripts/merged_ffn_bounds.py build time              # perf and the rates, one thread: two minutes

fp32, D 512, forward and backward. `instructions` runs 512 tokens in segments of 64 and F 192: half a block of F, and
eight segments, which is how many 8 experts are merged for together. A vector's multiply-adds count as one. `time` runs
4096 tokens in segments of 256 and F 1376, and puts beside each function's time its FLOPs at the
micro-kernel's rate and its bytes at the rates of memory and of the third level of cache (read, or written, which reads
the line first). Bytes follow the loop nest (src/ops/cpu): what a task streams that is larger than the second level.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import tempfile

D, LANES, FORWARD_ROWS, BLOCK = 512, 8, 32, 64
FUNCTIONS = {  # the first that matches: of the object and the function
    "products": r"^(\?\?\?|\[JIT\])|brgemm",  # made at run time: callgrind and perf know no file of theirs
    "merging": r"::merge(_row|_segments|_block)?<",
    "<G, W>": r"::dot(_block|_outputs)?<",
    "dW": r"::combine(_rows|_block)?<",
    "SwiGLU": r"swiglu",
    "packing": r"transpose|pack_|pair_rows|_bf16|memcpy|memmove|memset",
    "rest": r"lorikeet",
}


def group(name):
    return next((g for g, pattern in FUNCTIONS.items() if re.search(pattern, name)), None)


def multiply_adds(N, F, E, G):
    """Multiplications with addition, by function."""
    expert_pass = 3 * D * F * E * (G if E > 1 else 1)
    routed = expert_pass if E > 1 else 0
    return {"products": 9 * N * D * F, "merging": 2 * expert_pass, "<G, W>": routed, "dW": expert_pass}


def run(command, **environment):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1", **environment}).stdout


def self_costs(profile):
    """Instructions by (object, function), without what they call, of one of callgrind's files."""
    names, costs = {"fn": {}, "ob": {}}, collections.Counter()
    function = library = ""
    is_call = False

    def name(kind, text):
        number, given = re.match(r"\((\d+)\)(?: (.*))?", text).groups()
        if given:
            names[kind][number] = given
        return names[kind].get(number, "")

    for line in profile.read_text(errors="replace").splitlines():
        if match := re.match(r"(c?)(fn|ob)=(.*)", line):
            value = name(match[2], match[3])
            if not match[1]:
                function, library = (value, library) if match[2] == "fn" else (function, value)
        elif line.startswith("calls="):
            is_call = True
        elif re.match(r"[+\-*\d]", line):
            if not is_call:
                costs[pathlib.Path(library).name + " " + function] += int(line.split()[1])
            is_call = False
    return costs


def count(program, N, T, F, E):
    forward, backward = ("lorikeet::ops::cpu::merged_ffn_%s(*" % pass_ for pass_ in ("forward", "backward"))
    with tempfile.TemporaryDirectory() as folder:
        run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", f"--dump-before={forward}",
             f"--dump-after={backward}", program, *map(str, (N, T, D, F, E))])
        parts = [p for p in pathlib.Path(folder).iterdir()
                 if "Trigger: --dump-after" in p.read_text(errors="replace")[:4000]]
        last = max(parts, key=lambda p: int(p.suffix[1:]))  # the first is for making micro-kernels
        costs = collections.Counter()
        for name, instructions in self_costs(last).items():
            costs[group(name) or "LibTorch"] += instructions
    return costs


def instructions(build, experts):
    N, T, F = 512, 64, 192
    print("| experts | function | instructions, M | multiply-adds asked for, M | share |\n|---:|---|---:|---:|---:|")
    for E in experts:
        costs, asked = count(build / "merged_ffn_once", N, T, F, E), multiply_adds(N, F, E, N // T)
        costs["all"], asked["all"] = sum(costs.values()), sum(asked.values())
        for name in (*FUNCTIONS, "LibTorch", "all"):
            vectors = asked.get(name, 0) / LANES
            share = f"{100 * vectors / costs[name]:.0f}%" if vectors else ""
            print(f"| {E} | {name} | {costs[name] / 1e6:.1f} | {vectors / 1e6:.1f} | {share} |", flush=True)


def streams(N, F, E):
    """Bytes by function: read from memory, written to it, read from the third level of cache."""
    tokens_d, tokens_f, experts = 4 * N * D, 4 * N * F, 4 * 3 * E * D * F
    owners = D // BLOCK
    cached = (-(-F // FORWARD_ROWS) * tokens_d   # x, for each task of forward's first half
              + owners * tokens_f                # h, for each of the second
              + -(-F // BLOCK) * tokens_d        # dy, for each task of backward's first half
              + owners * 2 * tokens_f            # da and db, for dx
              + owners * 3 * tokens_f)           # da, db and h, for G
    return {"products": (0, 0, cached),
            "merging": (2 * experts, 0, 0),
            "<G, W>": (experts if E > 1 else 0, 0, 0),
            "dW": (0, experts, 0),
            "SwiGLU": (2 * tokens_f, 2 * tokens_f, 0)}  # a and b


def time_by_function(program, N, T, F, E, repetitions, hertz=999):
    # Memory is kept from one repetition to the next, as the program's allocator keeps it.
    kept = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
    with tempfile.TemporaryDirectory() as folder:
        run(["perf", "record", "-q", "-e", "cpu-clock", "-F", str(hertz), "-o", f"{folder}/data", program,
             *map(str, (N, T, D, F, E, repetitions))], **kept)
        report = run(["perf", "report", "-i", f"{folder}/data", "--stdio", "--no-children", "-F", "sample,dso,sym",
                      "-t", "\t"])
    milliseconds = collections.Counter()
    for line in report.splitlines():
        if line.strip() and not line.startswith("#"):
            samples, library, function = (field.strip() for field in line.split("\t")[:3])
            milliseconds[group(f"{library} {function}")] += 1e3 * int(samples) / hertz / repetitions
    return milliseconds


def time(build, experts):
    N, T, F = 4096, 256, 1376
    rates = json.loads(run([build / "memory_rates"]))
    rows = run([build / "lorikeet", "bench", "merged-ffn", "--hidden-size", "64", "--ffn-size", "64", "--tokens", "64",
                "--experts", "1", "--dtype", "fp32", "--no-reference", "--repetitions", "9", "--json"])
    peak = next(r["dense_gflops"] for r in map(json.loads, rows.splitlines()) if r["form"] == "peak")
    print(f"One thread: {peak:.0f} GFLOP/s of the micro-kernel; GB/s: " +
          ", ".join(f"{name.replace('_', ' ')} {rate:.1f}" for name, rate in rates.items()))
    print("\n| experts | function | GFLOP | ms at the peak | MB read, written; in cache | ms at their rates | measured, ms |"
          "\n|---:|---|---:|---:|---:|---:|---:|")
    for E in experts:
        asked, bytes_of = multiply_adds(N, F, E, N // T), streams(N, F, E)
        measured = time_by_function(build / "merged_ffn_once", N, T, F, E, repetitions=8)
        for name in FUNCTIONS:
            flops = 2e-9 * asked.get(name, 0)
            read, written, cached = (1e-6 * n for n in bytes_of.get(name, (0, 0, 0)))
            at_rates = read / rates["read"] + written / rates["write"] + cached / rates["cache_read"]
            print(f"| {E} | {name} | {flops:.1f} | {1e3 * flops / peak:.0f} | {read:.0f}, {written:.0f}; {cached:.0f} | "
                  f"{at_rates:.0f} | {measured[name]:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("what", choices=("instructions", "time"))
    parser.add_argument("--experts", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8, 32])
    arguments = parser.parse_args()
    {"instructions": instructions, "time": time}[arguments.what](arguments.build, arguments.experts)


if __name__ == "__main__":
    main()
