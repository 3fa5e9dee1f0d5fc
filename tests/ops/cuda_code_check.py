"""Reads what nvcc made of the kernels: registers, spills, occupancy, and tensor-core instructions.

usage: cuda_code_check.py LIBRARY ARCHITECTURE...    with cuobjdump from the triton wheel of this Python

For every kernel and architecture: nothing is spilled; the product kernels' blocks that tiles.h promises fit
on a multiprocessor by registers and shared memory; products use HMMA (tensor cores), LDGSTS (asynchronous
copies) and LDSM (ldmatrix), the streaming kernels HMMA; row kernels go through memory in 16-byte words. Exits with 77, a skip, where there is no cuobjdump.
"""

import pathlib
import re
import subprocess
import sys

REGISTERS = 65536
SHARED_BYTES = {80: 164 << 10, 90: 228 << 10, 100: 228 << 10}  # a multiprocessor
RESERVED_SHARED_BYTES = 1 << 10  # a block's own
PRODUCTS = ("gate_up", "store_product", "hidden_gradient", "segment_gradients")
STREAMS = ("combine", "routing_gradients")
ROWS = ("rope", "cross_entropy")
NEEDED = {
    "product": (r"HMMA\.16816\.F32\.BF16", "LDGSTS", "LDSM"),
    "stream": (r"HMMA\.16816\.F32\.BF16",),
    "row": (r"LDG\.E\S*\.128", r"STG\.E\S*\.128"),
}
COUNTS = {"product": 10, "stream": 9, "row": 4}
ROW_THREADS, ROW_BLOCKS = 256, 4  # rows.h
# TileShape<M, N, warps down, warps across, stages, blocks a multiprocessor>
TILE = re.compile(r"TileShapeILi(\d+)ELi(\d+)ELi(\d+)ELi(\d+)ELi(\d+)ELi(\d+)E")


def find_cuobjdump():
    try:
        import triton
    except ImportError:
        return None
    path = pathlib.Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    return path if path.exists() else None


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def resources(cuobjdump, library, architecture):
    """{kernel: (registers, bytes of stack and local memory)}"""
    text = run(cuobjdump, "--dump-resource-usage", "-arch", f"sm_{architecture}", library)
    pattern = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)")
    return {name: (int(reg), int(stack) + int(local)) for name, reg, stack, local in pattern.findall(text)}


def instructions(cuobjdump, library, architecture):
    """{kernel: its SASS}"""
    text = run(cuobjdump, "-sass", "-arch", f"sm_{architecture}", library)
    parts = re.split(r"Function : (\S+)", text)
    return dict(zip(parts[1::2], parts[2::2]))


def kind(name):
    if any(f"{len(p)}{p}I" in name for p in PRODUCTS):
        return "product"
    if any(f"{len(r)}{r}I" in name for r in ROWS):
        return "row"
    return "stream" if any(f"{len(s)}{s}I" in name for s in STREAMS) else None


def blocks_that_fit(name, registers, architecture):
    """(blocks a multiprocessor can hold, blocks that tiles.h promises)"""
    m, n, down, across, stages, promised = map(int, TILE.search(name).groups())
    threads = 32 * down * across
    by_registers = REGISTERS // (-(-registers // 8) * 8 * threads)
    shared = stages * (m + n) * 32 * 2 + RESERVED_SHARED_BYTES
    return min(by_registers, SHARED_BYTES[architecture] // shared), promised


def check(cuobjdump, library, architecture):
    faults = []
    sass = instructions(cuobjdump, library, architecture)
    used = {n: r for n, r in resources(cuobjdump, library, architecture).items() if "lorikeet" in n}
    for each, count in COUNTS.items():
        found = sorted(n for n in used if kind(n) == each)
        if len(found) != count:
            faults.append(f"sm_{architecture}: {count} kernels of kind {each} expected, not {found}")
    for name, (registers, spilled) in used.items():
        where = f"sm_{architecture}, {name}"
        if spilled:
            faults.append(f"{where}: {spilled} bytes of stack or local memory")
        for needed in NEEDED.get(kind(name), ()):
            if not re.search(needed, sass.get(name, "")):
                faults.append(f"{where}: no {needed}")
        fit = ""
        if kind(name) == "product":
            held, promised = blocks_that_fit(name, registers, architecture)
            fit = f", {held} blocks a multiprocessor"
            if held < promised:
                faults.append(f"{where}: {held} blocks fit, tiles.h promises {promised}")
        if kind(name) == "row" and -(-registers // 8) * 8 * ROW_THREADS * ROW_BLOCKS > REGISTERS:
            faults.append(f"{where}: {registers} registers, rows.h promises {ROW_BLOCKS} blocks")
        print(f"{where}: {registers} registers{fit}")
    return faults


if __name__ == "__main__":
    tool = find_cuobjdump()
    if tool is None:
        print("skipped: the triton wheel, which brings cuobjdump, is not installed")
        sys.exit(77)
    found = [f for a in sys.argv[2:] for f in check(tool, sys.argv[1], int(a))]
    print("\n".join(found) or "every kernel is as it should be")
    sys.exit(1 if found else 0)
