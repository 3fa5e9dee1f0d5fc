#!/usr/bin/env python3
"""How much of a run's communication lies under its computation, as a Markdown table.

    trace_overlap.py RUN_FOLDER...

Reads the trace_rank_NNNNN.json that `--set log.trace_first=STEP` leaves. Of each collective, by group and kind: calls
and seconds a step and rank, and during how much of that time the rank computed (forward, backward, optimizer, without
their waiting for a collective). Of the step: how long it did not, which is what communication costs in the end, with
reading data and all else. On CUDA these are the host's times, not the device's.
"""

import collections
import glob
import json
import os
import sys

COMPUTE = "compute"  # the track of the thread that trains
WORK = {"forward", "backward", "optimizer"}
STEP_END = "optimizer"


def fail(message):
    sys.exit(f"error: {message}\nhint: make one with --set log.trace_first=5")


def read(path):
    """The spans (begin, end, name) of each track, in microseconds, by begin."""
    try:
        with open(path) as file:
            events = json.load(file)
    except (OSError, ValueError) as error:
        fail(f"{path}: is no trace: {error}")
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    tracks = collections.defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            begin = event["ts"]
            tracks[names[event["tid"]]].append((begin, begin + event["dur"], event["name"]))
    return {track: sorted(spans) for track, spans in tracks.items()}


def union(spans):
    """Intervals that do not touch, in order."""
    merged = []
    for begin, end, *_ in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    return merged


def length(intervals):
    return sum(end - begin for begin, end in intervals)


def common(intervals, others):
    """How long both lists run."""
    return sum(max(0, min(end, e) - max(begin, b)) for begin, end in intervals for b, e in others)


def without(intervals, others):
    """What of `intervals` lies outside of `others`."""
    left = []
    for begin, end in intervals:
        for b, e in others:
            if e <= begin or b >= end:
                continue
            if b > begin:
                left.append([begin, b])
            begin = max(begin, e)
        if begin < end:
            left.append([begin, end])
    return left


class Sums:
    def __init__(self):
        self.calls = self.time = self.covered = 0


def add_rank(path, sums):
    """@return of the rank: steps, time from the first to the last span, time without computation; microseconds"""
    tracks = read(path)
    compute = tracks.get(COMPUTE, [])
    steps = sum(name == STEP_END for _, _, name in compute)
    if steps == 0:
        fail(f"{path}: holds no whole step")
    # Spans of waiting lie inside those of forward and backward.
    waits = union([s for s in compute if s[2].startswith("wait")])
    busy = without(union([s for s in compute if s[2] in WORK]), waits)
    for track, spans in tracks.items():
        if track == COMPUTE:
            continue
        for begin, end, name in spans:
            kind = name.split()[0]
            entry = sums[track, kind]
            entry.calls += 1
            entry.time += end - begin
            entry.covered += common([(begin, end)], busy)
    first = min(begin for begin, _, _ in compute)
    last = max(end for _, end, _ in compute)
    return steps, last - first, last - first - length(busy)


def report(folder):
    paths = sorted(glob.glob(os.path.join(folder, "trace_rank_*.json")))
    if not paths:
        fail(f"{folder}: holds no trace_rank_*.json")
    sums = collections.defaultdict(Sums)
    ranks = [add_rank(path, sums) for path in paths]
    steps = sum(r[0] for r in ranks)  # of all ranks together: what follows is a mean
    name = os.path.basename(os.path.normpath(folder))
    for (track, kind), entry in sorted(sums.items()):
        seconds = entry.time / steps / 1e6
        share = entry.covered / entry.time if entry.time else 0
        print(f"| {name} | {track} | {kind} | {entry.calls / steps:.0f} | {seconds:.3f} | {share:.0%} |")
    whole, idle = (sum(r[i] for r in ranks) / steps / 1e6 for i in (1, 2))
    print(f"| {name} | step | without computation | | {idle:.3f} of {whole:.3f} | |")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__.strip())
    print("| run | group | | calls a step | seconds a step | under computation |")
    print("|---|---|---|---:|---:|---:|")
    for folder in sys.argv[1:]:
        report(folder)


if __name__ == "__main__":
    main()
