#!/usr/bin/env python3
"""How `lorikeet data batch` (BM25) grows with the number of documents: makes synthetic corpora of the sizes named, runs stage after stage,
and prints seconds, peak memory and disk of each as a table.

    scripts/similarity_growth.py TOKENIZER FOLDER [DOCUMENTS...]         for example ... 100000 200000 400000

A document has 80 words: half from its topic (one topic for every 50 documents, 200 words each), half by Zipf's law from 50,000.
"""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = pathlib.Path(os.environ.get("LORIKEET_BUILD", SOURCE / "build")) / "lorikeet"
STAGES = ["embed", "neighbours", "filter", "deduplicate", "path", "order"]
WORDS, TOPIC_WORDS, NUM_WORDS = 80, 200, 50_000


def write_corpus(path, count):
    chooser = random.Random(1)
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in "aeiou"]
    names = ["".join(chooser.choices(syllables, k=4)) for _ in range(NUM_WORDS)]
    zipf = [1 / (rank + 1) for rank in range(NUM_WORDS)]
    cumulative = [zipf[0]]
    for weight in zipf[1:]:
        cumulative.append(cumulative[-1] + weight)
    topics = max(1, count // 50)
    with open(path, "w") as file:
        for _ in range(count):
            topic = random.Random(chooser.randrange(topics))
            own = topic.sample(names, TOPIC_WORDS)
            words = chooser.choices(own, k=WORDS // 2) + chooser.choices(names, cum_weights=cumulative, k=WORDS // 2)
            chooser.shuffle(words)
            file.write(json.dumps({"text": " ".join(words)}) + "\n")


def run(*arguments):
    """Seconds, and the most memory the command held, in GB."""
    begin = time.perf_counter()
    child = subprocess.Popen([PROGRAM, "data", *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(errors.decode())
    return time.perf_counter() - begin, usage.ru_maxrss / 1e6


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
        runs = [run("batch", here / "shards", "--until", stage) for stage in STAGES]
        size = sum(path.stat().st_size for path in (here / "shards/similarity").iterdir()) / 1e9
        seconds = [f"{taken:.1f}" for taken, _ in runs]
        print(f"| {count:,} | {' | '.join(seconds)} | {sum(taken for taken, _ in runs):.0f} | {max(m for _, m in runs):.2f} | {size:.2f} |",
              flush=True)
        shutil.rmtree(here)


if __name__ == "__main__":
    main(*sys.argv[1:])
