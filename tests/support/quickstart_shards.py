"""The quickstart corpus as token shards, for the checks of `lorikeet data batch`."""

import pathlib
import subprocess


def make(program, source, folder):
    """Returns the folder of the shards."""
    files = sorted(str(p) for p in (pathlib.Path(source) / "data/quickstart").glob("*.jsonl.gz"))
    tokenizer, shards = f"{folder}/tokenizer.model", pathlib.Path(folder) / "shards"
    subprocess.run([program, "data", "tokenizer", "--input", *files, "--vocab-size", "1000", "--sample-bytes", "300K",
                    "--output", tokenizer], check=True, capture_output=True)
    subprocess.run([program, "data", "tokenize", "--input", *files, "--tokenizer", tokenizer, "--output", shards,
                    "--held-out", "2%"], check=True, capture_output=True)
    return shards
