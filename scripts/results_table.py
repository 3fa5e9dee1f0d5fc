#!/usr/bin/env python3
"""Validation losses of finished runs as a Markdown table, and their training losses on the way.

    results_table.py RUNS_FOLDER NAME...
"""

import json
import os
import statistics
import sys

WINDOW = 10  # training losses are noisy: the mean of so many steps


def read(folder):
    with open(os.path.join(folder, "metrics.jsonl")) as file:
        rows = [json.loads(line) for line in file]
    return [r for r in rows if "loss" in r], [r for r in rows if "validation" in r]


def row(cells):
    print("| " + " | ".join(cells) + " |")


def main():
    runs = {name: read(os.path.join(sys.argv[1], name)) for name in sys.argv[2:]}
    domains = list(next(iter(runs.values()))[1][-1]["validation"])
    row(["validation loss", "step", *domains])
    row(["---", "---:", *["---:"] * len(domains)])
    for name, (_, validations) in runs.items():
        for entry in validations:
            losses = [f"{entry['validation'][domain]:.3f}" for domain in domains]
            row([name, str(entry["step"]), *losses])
    marks = [25, 50, 100, 150, 200, 300]
    print()
    row([f"training loss, mean of {WINDOW} steps to", *map(str, marks), "median tokens/s"])
    row(["---", *["---:"] * (len(marks) + 1)])
    for name, (steps, _) in runs.items():
        losses = [r["loss"] for r in steps]
        means = [
            f"{statistics.mean(losses[m - WINDOW:m]):.3f}" if len(losses) >= m else "" for m in marks
        ]
        rate = statistics.median(r["tokens_per_second"] for r in steps)
        row([name, *means, f"{rate:,.0f}"])


if __name__ == "__main__":
    main()
