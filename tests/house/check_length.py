"""Checks that no file of ours is longer than 600 lines. usage: check_length.py SOURCE"""

import pathlib
import sys

LIMIT = 600
FOLDERS = ("cmake", "include", "scripts", "src", "tests", "tools")
SUFFIXES = {".h", ".cpp", ".cu", ".cuh", ".py", ".sh", ".cmake", ".txt"}


def check(source):
    offences = []
    for folder in FOLDERS:
        for file in sorted(p for p in (source / folder).rglob("*") if p.suffix in SUFFIXES):
            length = len(file.read_text().splitlines())
            if length > LIMIT:
                offences.append(f"{file.relative_to(source)}: {length} lines, the limit is {LIMIT}")
    return offences


if __name__ == "__main__":
    found = check(pathlib.Path(sys.argv[1]))
    print("\n".join(found) or f"no file has more than {LIMIT} lines")
    sys.exit(1 if found else 0)
