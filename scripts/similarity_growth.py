#!/usr/bin/env python3
"""How `lorikeet data batch` (BM25) grows with the number of documents: makes synthetic corpora of the sizes named, runs stage after stage
in one thread, and prints seconds of that thread (a machine busy with other work does not change them), peak memory and disk of each as
a table.

    ~/.cache/lorikeet/venv/bin/python scripts/similarity_growth.py TOKENIZER FOLDER [DOCUMENTS...]   for example ... 100000 500000 2000000

A document has 80 words: half from its topic (one topic for every 50 documents, 200 words each), half by Zipf's law from 50,000.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy

SOURCE = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = pathlib.Path(os.environ.get("LORIKEET_BUILD", SOURCE / "build")) / "lorikeet"
STAGES = ["embed", "neighbours", "filter", "deduplicate", "path", "order"]
WORDS, TOPIC_WORDS, NUM_WORDS = 80, 200, 50_000


def write_corpus(path, count):
    chooser = numpy.random.default_rng(1)
    syllables = numpy.array([a + b for a in "bcdfghjklmnprstvwz" for b in "aeiou"])
    names = numpy.array(["".join(four) for four in chooser.choice(syllables, (NUM_WORDS, 4))], dtype=object)
    zipf = numpy.cumsum(1 / numpy.arange(1, NUM_WORDS + 1))
    topics = chooser.integers(NUM_WORDS, size=(max(1, count // 50), TOPIC_WORDS), dtype=numpy.int32)
    with open(path, "w") as file:
        for begin in range(0, count, 10_000):
            size = (min(count - begin, 10_000), WORDS // 2)
            own = topics[chooser.integers(len(topics), size=(size[0], 1)), chooser.integers(TOPIC_WORDS, size=size)]
            common = numpy.searchsorted(zipf, chooser.random(size) * zipf[-1])
            words = chooser.permuted(numpy.concatenate([own, common], axis=1), axis=1)
            file.writelines(json.dumps({"text": " ".join(row)}) + "\n" for row in names[words])


def run(*arguments):
    """Seconds of the processor, and the most memory the command held, in GB."""
    child = subprocess.Popen([PROGRAM, "data", *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(errors.decode())
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def main(tokenizer, folder, *counts):
    folder = pathlib.Path(folder)
    print("| documents | " + " | ".join(f"{stage}, s" for stage in STAGES) + " | total, s | memory, GB | stages' files, GB |")
    print("|---:" * (len(STAGES) + 4) + "|")
    for count in map(int, counts or (100_000, 200_000)):
        here = folder / str(count)
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir(parents=True)
        write_corpus(here / "text.jsonl", count)
        run("tokenize", "--input", here / "text.jsonl", "--tokenizer", tokenizer, "--held-out", "0", "--output", here / "shards")
        runs = [run("batch", here / "shards", "--threads", 1, "--until", stage) for stage in STAGES]
        size = sum(path.stat().st_size for path in (here / "shards/similarity").iterdir()) / 1e9
        seconds = [f"{taken:.1f}" for taken, _ in runs]
        print(f"| {count:,} | {' | '.join(seconds)} | {sum(taken for taken, _ in runs):.0f} | {max(m for _, m in runs):.2f} | {size:.2f} |",
              flush=True)
        shutil.rmtree(here)


if __name__ == "__main__":
    main(*sys.argv[1:])
