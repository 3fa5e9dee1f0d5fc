"""`lorikeet data batch --encoder` on the weights of scripts/fetch_minilm.sh: embeddings equal those of `transformers` (one
chunk and all chunks, fp32; bf16 near them), neighbours are those of brute force, killed runs end with the same order, mistakes end with one error. Runs in the
virtual environment that `scripts/fetch_minilm.sh --transformers` makes; exits 77 where it or the model is missing.

usage: encoder_check.py PROGRAM SOURCE DEPS
"""

import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

# Case, accents, scripts without spaces, control characters, long words, punctuation, emoji.
HARD_TEXTS = [
    "Hello, World! un##able [ ] ##s", "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m \u0130stanbul \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "\u8a00\u8449\u306e\u5c71 \ud55c\uad6d\uc5b4 \u0e20\u0e32\u0e29\u0e32",
    "tab\tnewline\nbell\x07zero\u200bwidth\ufeff end", "a" * 101 + " b", "a" * 100 + " b", "$1,234.56 \u20ac\u00a3 x\u00b2 \u2260 \u00bd \u2014 \u201cquoted\u201d",
    "\U0001f600 emoji \U0001f468\u200d\U0001f469", "e\u0301 combining \u0915\u094d\u0937", "\u00a0nbsp\u3000wide\u2028line", "\u00df \ufb01ligature \u01c4 \u1e9e",
]


def documents_of(source):
    texts = list(HARD_TEXTS)
    for name, count in (("abstracts", 5), ("manual", 3), ("books", 1)):
        with gzip.open(pathlib.Path(source) / f"data/quickstart/{name}.jsonl.gz", "rt") as lines:
            texts += [json.loads(line)["text"] for _, line in zip(range(count), lines)]
    return texts


def make_shards(program, source, folder, texts):
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    corpus = pathlib.Path(source) / "data/quickstart/abstracts.jsonl.gz"
    for arguments in (["tokenizer", "--input", corpus, "--vocab-size", "500", "--output", folder / "t.model"],
                      ["tokenize", "--input", folder / "text.jsonl", "--tokenizer", folder / "t.model", "--held-out", "0",
                       "--output", folder / "shards"]):
        subprocess.run([program, "data", *arguments], check=True, capture_output=True)
    return folder / "shards"


def batch(program, shards, model, work, *options):
    return subprocess.run([program, "data", "batch", shards, "--encoder", model, "--work", work, "--threads", "1",
                           *options], capture_output=True, text=True)


def embeddings(program, shards, model, work, *options):
    import numpy

    result = batch(program, shards, model, work, *options, "--until", "embed")
    assert result.returncode == 0, result.stderr
    stored = (work / "embeddings_000000.stage").read_bytes()
    size = struct.unpack_from("<Q", stored, 32)[0]  # of the first section, behind a header of 88 bytes
    return numpy.frombuffer(stored[88:88 + size], dtype=numpy.float32).reshape(-1, 384)


def reference(model, texts, max_chunks):
    """Chunks of 510 pieces between [CLS] and [SEP]; the mean of their means, scaled to length one."""
    import torch
    import transformers

    torch.set_num_threads(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    encoder = transformers.AutoModel.from_pretrained(model).eval()
    rows = []
    for text in texts:
        pieces = tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"]
        chunks = [pieces[i:i + 510] for i in range(0, max(1, len(pieces)), 510)][:max_chunks]
        means = []
        for chunk in chunks:
            ids = torch.tensor([[tokenizer.cls_token_id, *chunk, tokenizer.sep_token_id]])
            with torch.no_grad():
                means.append(encoder(input_ids=ids).last_hidden_state[0].mean(0))
        mean = torch.stack(means).mean(0)
        rows.append(mean / mean.norm())
    return torch.stack(rows).numpy()


def check_kills(program, shards, model, folder, expected):
    """Kills each run a little later than the one before, until one ends by itself."""
    killed, delay = 0, 0.2
    while True:
        run = subprocess.Popen([program, "data", "batch", shards, "--encoder", model, "--work", folder / "killed", "--threads", "1",
                                "--output", folder / "killed.order"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert run.wait(timeout=delay) == 0
            break
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
            killed, delay = killed + 1, delay * 1.5
    assert killed >= 3, killed
    assert (folder / "killed.order").read_bytes() == expected, "another order after kills"
    print(f"{killed} runs killed; the order is the same")


def check_mistakes(program, shards, model, folder):
    from safetensors.torch import load_file, save_file

    def expect(code, text, directory):
        result = batch(program, shards, directory, folder / "wrong")
        assert result.returncode == code, (result.returncode, result.stderr)
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and text in errors[0], result.stderr

    expect(4, "config.json", folder / "nowhere")
    broken = folder / "broken"
    shutil.copytree(model, broken)
    weights = load_file(model / "model.safetensors")
    name = "encoder.layer.5.output.dense.bias"
    save_file({**weights, name: weights[name] * float("nan")}, broken / "model.safetensors")
    expect(3, "a vector that is not finite", broken)
    save_file({**weights, name: weights[name][:100].clone()}, broken / "model.safetensors")
    expect(4, f"{name} is F32 [100]", broken)
    weights.pop(name)
    save_file(weights, broken / "model.safetensors")
    expect(4, f"no tensor {name}", broken)
    (broken / "vocab.txt").unlink()
    (broken / "tokenizer.json").unlink()
    expect(4, "has neither vocab.txt nor", broken)
    (broken / "config.json").write_text('{"model_type": "llama"}')
    expect(4, "'llama' is not bert", broken)


def main(program, source, deps):
    model = pathlib.Path(deps) / "models/all-MiniLM-L6-v2"
    others = pathlib.Path(deps) / "transformers-venv"
    if not (model / "model.safetensors").exists() or not (others / "complete").exists():
        print("skipped: scripts/fetch_minilm.sh --transformers has not been run")
        return 77
    if pathlib.Path(sys.prefix).name != others.name:
        return subprocess.run([others / "bin/python", *sys.argv]).returncode
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        texts = documents_of(source)
        shards = make_shards(program, source, folder, texts)
        for label, options, chunks in (("one chunk", [], 1), ("all chunks", ["--chunks", "0"], None)):
            ours = embeddings(program, shards, model, folder / label, *options)
            theirs = reference(model, texts, chunks)
            worst = abs(ours - theirs).max(axis=1)
            print(f"{label}: {len(texts)} documents, within {worst.max():.1e} of transformers")
            assert worst.max() < 1e-4, [(text[:40], float(w)) for text, w in zip(texts, worst) if w >= 1e-4]
        # bf16 has 8 bits of mantissa; through six layers 1% of a vector's length is lost.
        half = embeddings(program, shards, model, folder / "half", "--chunks", "0", "--precision", "bf16")
        least = (half * theirs).sum(axis=1).min()
        print(f"bf16: least cosine with fp32 {least:.5f}")
        assert least > 0.99, least
        for search in ("exact", "ivf"):
            result = batch(program, shards, model, folder / "one chunk", "--search", search, "--report", "--output",
                           folder / f"{search}.order")
            recall = float(re.search(r"recall@10 of the search: ([0-9.]+)", result.stdout).group(1))
            print(f"{search}: recall@10 {recall}")
            assert recall == 1, result.stdout  # so few documents are in one list
        check_kills(program, shards, model, folder, (folder / "exact.order").read_bytes())
        check_mistakes(program, shards, model, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
