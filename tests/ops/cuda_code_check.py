"""Reads what nvcc made of the kernels: registers, spills, occupancy, and tensor-core instructions.

usage: cuda_code_check.py LIBRARY ARCHITECTURE...    with cuobjdump from the triton wheel of this Python

For every kernel and architecture: nothing is spilled; the blocks that tiles.h and rows.h promise, by which
launches are sized, fit on a multiprocessor by registers, threads and shared memory, of which no kernel has any
beside what its launch gives it; products use HMMA (tensor cores), LDGSTS (asynchronous copies) and LDSM
(ldmatrix), the streaming kernels HMMA; row kernels go through memory in 16-byte words. Prints the table.
Exits with 77, a skip, where there is no cuobjdump.
"""

import pathlib
import re
import subprocess
import sys

REGISTERS = 65536
SHARED_BYTES = {80: 164 << 10, 90: 228 << 10, 100: 228 << 10}  # a multiprocessor
RESERVED_SHARED_BYTES = 1 << 10  # a block's own
PRODUCTS = ("gate_up", "store_product", "hidden_gradient", "segment_gradients")
STREAMS = ("combine", "routing_gradients", "sum_partials")
ROWS = ("rope", "cross_entropy", "rms_norm", "rms_norm_input", "rms_norm_weight")
NEEDED = {
    "product": (r"HMMA\.16816\.F32\.BF16", "LDGSTS", "LDSM"),
    "stream": (r"HMMA\.16816\.F32\.BF16",),
    "sum": (),
    "row": (r"LDG\.E\S*\.128", r"STG\.E\S*\.128"),
}
COUNTS = {"product": 10, "stream": 9, "sum": 1, "row": 10}
THREADS_OF_SM = 2048
ROW_THREADS, ROW_BLOCKS = 256, 4  # rows.h
STREAM_THREADS, STREAM_BLOCKS = 256, 1  # tiles.h, as what follows
COMBINE_THREADS, COMBINE_BLOCKS = 128, {"1": 3, "0": 4}  # by whether the inputs are fp32
ROUTING_SEGMENTS = 64
COMBINE_BYTES = 40 << 10  # 32 experts and 256 segments, or 160 of them at 64: where all its blocks are to fit
ROW_BYTES = 8 << 10  # NormShared, the most
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
    """{kernel: (registers, bytes of stack and local memory, bytes of static shared memory)}"""
    text = run(cuobjdump, "--dump-resource-usage", "-arch", f"sm_{architecture}", library)
    pattern = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
    reported = RESERVED_SHARED_BYTES if architecture >= 90 else 0  # from there on the tool counts them
    return {
        name: (int(reg), int(stack) + int(local), int(shared) - reported)
        for name, reg, stack, shared, local in pattern.findall(text)
    }


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
    if "12sum_partials" in name:
        return "sum"
    return "stream" if any(f"{len(s)}{s}I" in name for s in STREAMS) else None


def promise(name):
    """(threads of a block, blocks a multiprocessor, bytes of shared memory that a launch asks for)"""
    if kind(name) == "product":
        m, n, down, across, stages, blocks = map(int, TILE.search(name).groups())
        return 32 * down * across, blocks, stages * (m + n) * 32 * 2
    if kind(name) == "row":
        return ROW_THREADS, ROW_BLOCKS, ROW_BYTES
    combine = re.search(r"7combineILb([01])E", name)
    if combine:
        return COMBINE_THREADS, COMBINE_BLOCKS[combine.group(1)], COMBINE_BYTES
    routing = re.search(r"17routing_gradientsILb[01]ELi(\d+)E", name)
    return STREAM_THREADS, STREAM_BLOCKS, ROUTING_SEGMENTS * int(routing.group(1)) * 8 * 4 if routing else 0


def blocks_that_fit(threads, registers, shared, architecture):
    """What a multiprocessor holds of such blocks, by each of its resources"""
    by_registers = REGISTERS // (-(-registers // 8) * 8 * threads)
    by_shared = SHARED_BYTES[architecture] // (shared + RESERVED_SHARED_BYTES)
    return min(by_registers, by_shared, THREADS_OF_SM // threads)


def short(name):
    """combine<1,0>: the kernel and its arguments, of tiles the rows"""
    tile = TILE.search(name)
    text = next(f for f in PRODUCTS + STREAMS + ROWS if f"{len(f)}{f}" in name)
    arguments = re.findall(r"L[bi](\d+)E", name[name.index(text) + len(text) :])
    return f"{text}<{','.join([tile.group(1)] + arguments[6:] if tile else arguments)}>"


def check(cuobjdump, library, architecture):
    faults = []
    sass = instructions(cuobjdump, library, architecture)
    used = {n: r for n, r in resources(cuobjdump, library, architecture).items() if "lorikeet" in n}
    for each, count in COUNTS.items():
        found = sorted(n for n in used if kind(n) == each)
        if len(found) != count:
            faults.append(f"sm_{architecture}: {count} kernels of kind {each} expected, not {found}")
    print(f"{'sm':>4} {'kernel':<26} {'threads':>7} {'registers':>9} {'spilled':>7} {'shared':>7} {'blocks':>6} of")
    for name, (registers, spilled, static) in sorted(used.items(), key=lambda item: (kind(item[0]) or "", item[0])):
        if kind(name) is None:
            faults.append(f"sm_{architecture}: a kernel that nobody knows: {name}")
            continue
        where = f"sm_{architecture}, {short(name)}"
        threads, promised, shared = promise(name)
        held = blocks_that_fit(threads, registers, shared + static, architecture)
        figures = f"{threads:>7} {registers:>9} {spilled:>7} {shared:>7} {held:>6} {promised}"
        print(f"{architecture:>4} {short(name):<26} {figures}")
        if spilled:
            faults.append(f"{where}: {spilled} bytes of stack or local memory")
        if static:
            faults.append(f"{where}: {static} bytes of shared memory that no plan counts")
        for needed in NEEDED[kind(name)]:
            if not re.search(needed, sass.get(name, "")):
                faults.append(f"{where}: no {needed}")
        if held < promised:
            faults.append(f"{where}: {held} blocks fit on a multiprocessor, {promised} are promised")
    return faults


if __name__ == "__main__":
    tool = find_cuobjdump()
    if tool is None:
        print("skipped: the triton wheel, which brings cuobjdump, is not installed")
        sys.exit(77)
    found = [f for a in sys.argv[2:] for f in check(tool, sys.argv[1], int(a))]
    print("\n".join(found) or "every kernel is as it should be")
    sys.exit(1 if found else 0)
