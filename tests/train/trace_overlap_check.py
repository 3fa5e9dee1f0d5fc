#!/usr/bin/env python3
"""scripts/trace_overlap.py on two ranks' traces whose overlaps are known. usage: trace_overlap_check.py SCRIPT"""

import json
import os
import subprocess
import sys
import tempfile

UNIT = 10_000  # microseconds: 100 units are a second

# track, name, begin, end. Forward waits from 40 to 60, and backward from 190 to 200: no computation then.
SPANS = [
    ("compute", "data", 0, 10),
    ("compute", "forward", 10, 100),
    ("compute", "wait layers.0", 40, 60),
    ("compute", "backward", 100, 200),
    ("compute", "wait for gradients", 190, 200),
    ("compute", "optimizer", 205, 225),
    ("shard.gather", "all_gather layers.0", 30, 60),  # 10 of 30 under computation
    ("shard.gather", "all_gather layers.1", 60, 70),  # all
    ("shard.reduce", "reduce_scatter layers.1", 150, 170),  # all
    ("shard.reduce", "reduce_scatter layers.0", 180, 200),  # 10 of 20
    ("shard.reduce", "all_reduce layers.0", 200, 205),  # none
]
EXPECTED = """\
| run | group | | calls a step | seconds a step | under computation |
|---|---|---|---:|---:|---:|
| run | shard.gather | all_gather | 2 | 0.400 | 50% |
| run | shard.reduce | all_reduce | 1 | 0.050 | 0% |
| run | shard.reduce | reduce_scatter | 2 | 0.400 | 75% |
| run | step | without computation | | 0.450 of 2.250 | |
"""


def write_trace(path, rank):
    tracks = sorted({span[0] for span in SPANS})
    events = []
    for i, track in enumerate(tracks):
        events.append({"ph": "M", "name": "thread_name", "pid": rank, "tid": i, "args": {"name": track}})
    for track, name, begin, end in SPANS:
        times = {"ts": begin * UNIT, "dur": (end - begin) * UNIT}
        events.append({"ph": "X", "name": name, "pid": rank, "tid": tracks.index(track), **times})
    with open(path, "w") as file:
        json.dump(events, file)


def call(*arguments):
    return subprocess.run([sys.executable, "-B", sys.argv[1], *arguments], capture_output=True, text=True, check=False)


def main():
    with tempfile.TemporaryDirectory() as folder:
        run = os.path.join(folder, "run")
        os.mkdir(run)
        empty = call(run)
        assert empty.returncode == 1 and "holds no trace_rank_*.json" in empty.stderr, empty
        for rank in range(2):
            write_trace(os.path.join(run, f"trace_rank_{rank:05}.json"), rank)
        done = call(run + "/")
        assert done.stdout == EXPECTED, done
        with open(os.path.join(run, "trace_rank_00001.json"), "w") as file:
            file.write("[\n{")
        broken = call(run)
        assert broken.returncode == 1 and "trace_rank_00001.json: is no trace" in broken.stderr, broken


if __name__ == "__main__":
    main()
