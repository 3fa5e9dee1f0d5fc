#!/usr/bin/env python3
"""Our token ids against Python's sentencepiece, over a whole corpus, and the speed of both.

    sentencepiece_check.py LORIKEET_PROGRAM SHARED_FOLDER [FILES]

Exits 0 where all ids are equal and ours are made no slower, 77 (skipped) where sentencepiece or the
corpus is missing. Both sides use as many threads as there are cores and count the time for encoding
alone on the Python side, and for reading, parsing, encoding and writing on ours.
"""

import glob
import gzip
import json
import os
import struct
import subprocess
import sys
import tempfile
import time

SKIPPED = 77


def read_tokens(folder):
    """The token ids of every document in order, by the format in docs/data.md."""
    with open(os.path.join(folder, "manifest.json")) as file:
        manifest = json.load(file)
    for shard in manifest["shards"]:
        with open(os.path.join(folder, shard["file"]), "rb") as file:
            data = file.read()
        assert data[:8] == b"LKSHARD\n"
        version, size, num_tokens, num_documents = struct.unpack_from("<IIQQ", data, 8)
        assert version == 1
        tokens = memoryview(data)[128 : 128 + num_tokens * size].cast("H" if size == 2 else "i")
        table = 128 + (num_tokens * size + 7) // 8 * 8
        for i in range(num_documents):
            first, _, count, _ = struct.unpack_from("<QQII", data, table + 24 * i)
            yield tokens[first : first + count].tolist()


def main():
    program, shared = sys.argv[1], sys.argv[2]
    files = sorted(glob.glob(os.path.join(shared, "data/corpus/*.jsonl.gz")))
    model = os.path.join(shared, "data/tokenizers/mistral_v1_tokenizer.model")
    if len(sys.argv) > 3:
        files = files[: int(sys.argv[3])]
    try:
        import sentencepiece
    except ImportError:
        print("skipped: Python's sentencepiece is not installed")
        return SKIPPED
    if not files or not os.path.exists(model):
        print("skipped: the shared corpus is missing; set LORIKEET_SHARED")
        return SKIPPED

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [program, "data", "tokenize", "--tokenizer", model, "--output", folder, "--input"]
        subprocess.run(command + files, check=True)
        our_seconds = time.perf_counter() - start
        ours = list(read_tokens(folder))

    texts = []
    for file in files:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)["text"] for line in lines]
    processor = sentencepiece.SentencePieceProcessor(model_file=model)
    start = time.perf_counter()
    theirs = processor.encode(texts, num_threads=os.cpu_count())
    their_seconds = time.perf_counter() - start

    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts)} documents, {megabytes:.1f} MB of text, {sum(map(len, theirs))} tokens")
    print(f"lorikeet data tokenize:  {megabytes / our_seconds:6.1f} MB/s (whole command)")
    print(f"Python sentencepiece {sentencepiece.__version__}: {megabytes / their_seconds:6.1f} MB/s (encode)")
    assert len(ours) == len(texts), f"{len(ours)} documents came out, {len(texts)} went in"
    for number, (a, b) in enumerate(zip(ours, theirs)):
        assert a == [1] + b + [2], f"document {number} differs: {texts[number][:80]!r}"
    print("all ids are equal")
    if our_seconds > their_seconds:
        print("but ours were slower")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
