"""Draws the report of `lorikeet data batch --report` in headless Chromium and looks at the picture. Exits 77 where there
is no Chromium.

usage: page_check.py PROGRAM SOURCE [KEEP_PICTURE]
"""

import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import browser
import quickstart_shards


def main(program, source, keep=None):
    if browser.missing():
        print(f"skipped: {browser.missing()} is not installed")
        return 77
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        shards = quickstart_shards.make(program, source, folder)
        subprocess.run([program, "data", "batch", shards, "--report"], check=True, capture_output=True)
        page = shards / "similarity/report.html"
        dom = browser.elements(page, folder)
        assert dom.count("<svg") == 3 and dom.count("<table") >= 2, "plots or tables are missing"
        counts = browser.colours(page, folder, {"this order": ((11, 122, 117), [1, 0.7]),
                                                "random": ((208, 140, 43), [1, 0.7])}, keep)
        print(counts)
        assert counts["this order"] > 5000 and counts["random"] > 500 and counts["text"] > 5000, counts
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
