#!/usr/bin/env python3
"""Embeddings a second of `lorikeet data batch --encoder` and of sentence-transformers, in one run on the same documents, the first
512 pieces of each, batches sorted by length in both. Both tokenise; ours also decodes, starts and writes its file.

    ~/.cache/lorikeet/transformers-venv/bin/python scripts/encoder_speed.py SHARDS [DOCUMENTS]

after `scripts/fetch_minilm.sh --transformers`. SHARDS are made by `lorikeet data tokenize`; what is compared are their first
training documents.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import sentencepiece
import torch
from sentence_transformers import SentenceTransformer

SOURCE = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = pathlib.Path(os.environ.get("LORIKEET_BUILD", SOURCE / "build")) / "lorikeet"
MODEL = pathlib.Path(sys.prefix).parent / "models/all-MiniLM-L6-v2"


def main(shards, count="512"):
    texts = documents(pathlib.Path(shards), int(count))
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        theirs = sentence_transformers_rate(texts, dtype)
        ours = our_rate(texts, pathlib.Path(shards) / "tokenizer.model", precision)
        print(f"{precision}: lorikeet {ours:.1f}/s, sentence-transformers {theirs:.1f}/s, {ours / theirs:.2f} times", flush=True)


def documents(shards, count):
    """Texts of the first documents, from the tokens."""
    import numpy

    stored = (shards / "shard_00000.tokens").read_bytes()
    width, tokens = (int.from_bytes(stored[at:at + size], "little") for at, size in ((12, 4), (16, 8)))
    ids = numpy.frombuffer(stored, dtype=f"<u{width}", count=tokens, offset=128)
    table = numpy.frombuffer(stored, dtype="<u8,<u8,<u4,<u4", count=count, offset=128 + (tokens * width + 7) // 8 * 8)
    decoder = sentencepiece.SentencePieceProcessor(model_file=str(shards / "tokenizer.model"))
    return [decoder.decode(ids[first:first + length].tolist()) for first, _, length, _ in table.tolist()]


def sentence_transformers_rate(texts, dtype):
    model = SentenceTransformer(str(MODEL), device="cpu", model_kwargs={"dtype": dtype})
    model.max_seq_length = 512
    model.encode(texts[:8], batch_size=32)
    begin = time.perf_counter()
    model.encode(texts, batch_size=32, convert_to_tensor=True)
    return len(texts) / (time.perf_counter() - begin)


def our_rate(texts, tokenizer, precision):
    import json

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        subprocess.run([PROGRAM, "data", "tokenize", "--input", folder / "text.jsonl", "--tokenizer", tokenizer, "--held-out", "0",
                        "--output", folder / "shards"], check=True, capture_output=True)
        begin = time.perf_counter()
        subprocess.run([PROGRAM, "data", "batch", folder / "shards", "--encoder", MODEL, "--precision", precision, "--until", "embed"],
                       check=True, capture_output=True)
        return len(texts) / (time.perf_counter() - begin)


if __name__ == "__main__":
    main(*sys.argv[1:])
