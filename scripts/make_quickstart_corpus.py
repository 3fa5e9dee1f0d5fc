#!/usr/bin/env python3
"""Makes data/quickstart/*.jsonl.gz from a larger corpus: the same bytes on every run.

    scripts/make_quickstart_corpus.py CORPUS_FOLDER [OUTPUT_FOLDER]

Takes whole documents from the parts that may be passed on without conditions beyond a notice, the
shortest first within each source (after a lower bound that leaves stubs out), until the source's share
of packed bytes is used up. Lines are then ordered by a hash of their text.
"""

import gzip
import hashlib
import io
import json
import pathlib
import sys
import zlib

# output file -> (corpus file, source, packed bytes, characters of the shortest and longest document)
PARTS = {
    "books": [("books", "100-english-novels", 620_000, 2_000, 40_000)],
    "python": [
        ("code_python", "cpython-3.12-stdlib", 280_000, 400, 40_000),
        ("code_python", "sympy", 130_000, 400, 40_000),
        ("code_python", "networkx", 160_000, 400, 40_000),
    ],
    "abstracts": [("arxiv_latex", "arxiv-abstracts", 400_000, 200, 10_000)],
    "web": [("web", "digital.gov", 560_000, 1_500, 40_000)],
    "manual": [("docs", "postgresql-doc-15", 520_000, 1_000, 40_000)],
}


def read_source(corpus, file_name, source, shortest, longest):
    with gzip.open(corpus / f"{file_name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        documents = [json.loads(line) for line in lines]
    return [
        d for d in documents if d["source"] == source and shortest <= len(d["text"]) <= longest
    ]


def order_key(document):
    return hashlib.sha256(document["text"].encode()).hexdigest()


def to_line(document, domain):
    record = {
        "text": document["text"],
        "domain": domain,
        "source": document["source"],
        "id": document["id"],
    }
    return json.dumps(record, ensure_ascii=False) + "\n"


def choose(documents, domain, budget):
    """The shortest documents whose lines, compressed as one stream, stay within the budget."""
    packer = zlib.compressobj(9)
    packed = 0
    chosen = []
    for document in sorted(documents, key=lambda d: (len(d["text"]), order_key(d))):
        packed += len(packer.compress(to_line(document, domain).encode()))
        if packed > budget:
            break
        chosen.append(document)
    return chosen


def write_packed(path, text):
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as packed:
        packed.write(text.encode())
    path.write_bytes(buffer.getvalue())
    return len(buffer.getvalue())


def main():
    corpus = pathlib.Path(sys.argv[1])
    root = pathlib.Path(__file__).resolve().parent.parent
    output = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else root / "data" / "quickstart"
    output.mkdir(parents=True, exist_ok=True)
    for domain, sources in PARTS.items():
        documents = []
        for file_name, source, budget, shortest, longest in sources:
            found = read_source(corpus, file_name, source, shortest, longest)
            chosen = choose(found, domain, budget)
            size = sum(len(d["text"].encode()) for d in chosen)
            print(f"{domain:10} {source:22} {len(chosen):5} documents {size:9,} bytes of text")
            documents += chosen
        documents.sort(key=order_key)
        text = "".join(to_line(d, domain) for d in documents)
        packed = write_packed(output / f"{domain}.jsonl.gz", text)
        print(f"{domain:10} {'':22} {len(documents):5} documents {packed:9,} bytes packed")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main()
