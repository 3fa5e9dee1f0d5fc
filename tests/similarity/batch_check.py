"""`lorikeet data batch` on the quickstart corpus: killed with SIGKILL at many moments it ends with the order of an
undisturbed run; two processes make the order of one; mistakes end with one error and the right code.

usage: batch_check.py PROGRAM SOURCE
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import quickstart_shards

STAGES = ["embed", "neighbours", "filter", "deduplicate", "path", "order"]


def batch(program, shards, *options, env=None):
    return subprocess.run([program, "data", "batch", shards, *map(str, options)], capture_output=True, text=True,
                          env={**os.environ, **(env or {})})


def check_kills(program, shards, folder, expected):
    """Kills each run a little later than the one before, until one ends by itself; then does so within each stage
    by starting where the stage before ended."""
    killed = 0
    for stage in [None] + STAGES[:-1]:
        work, output = folder / f"killed_{stage}", folder / f"killed_{stage}.order"
        if stage:
            assert batch(program, shards, "--work", work, "--until", stage).returncode == 0
        delay = 0.005
        while True:
            run = subprocess.Popen([program, "data", "batch", shards, "--work", work, "--output", output],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(delay)
            delay *= 1.5
            if run.poll() is not None:
                break
            run.send_signal(signal.SIGKILL)
            run.wait()
            killed += 1
        assert run.returncode == 0, (stage, run.returncode)
        assert output.read_bytes() == expected, f"another order after kills behind {stage}"
    assert killed >= 10, killed
    print(f"{killed} runs killed; the order is the same")


def check_processes(program, shards, folder, expected):
    work, output = folder / "two", folder / "two.order"
    runs = [subprocess.Popen([program, "data", "batch", shards, "--work", work, "--output", output],
                             env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"}) for rank in (1, 0)]
    assert [run.wait(timeout=300) for run in runs] == [0, 0]
    assert output.read_bytes() == expected, "another order with two processes"


def expect_error(code, text, result):
    lines = result.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert result.returncode == code and len(errors) == 1 and text in errors[0], (code, text, result)
    assert any(line.startswith("hint: ") for line in lines), result.stderr


def check_mistakes(program, shards, folder):
    expect_error(3, "manifest.json", batch(program, folder))
    expect_error(2, "--neighbours", batch(program, shards, "--neighbours", 0))
    expect_error(2, "--duplicates", batch(program, shards, "--duplicates", "perhaps"))
    expect_error(2, "--memory", batch(program, shards, "--memory", "much"))
    expect_error(2, "RANK", batch(program, shards, env={"RANK": "2", "WORLD_SIZE": "2"}))
    expect_error(2, "WORLD_SIZE", batch(program, shards, env={"WORLD_SIZE": "two"}))
    expect_error(2, "--force", batch(program, shards, "--force", env={"RANK": "0", "WORLD_SIZE": "2"}))
    (folder / "file").write_text("")
    expect_error(3, "file", batch(program, shards, "--work", folder / "file"))
    foreign = folder / "foreign"
    shutil.copytree(shards / "similarity", foreign)
    stage = foreign / "path.stage"
    stage.write_bytes(stage.read_bytes()[:60])
    expect_error(3, "path.stage", batch(program, shards, "--work", foreign))
    assert batch(program, shards, "--work", foreign, "--force").returncode == 0


def main(program, source):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        shards = quickstart_shards.make(program, source, folder)
        result = batch(program, shards)
        assert result.returncode == 0, result.stderr
        expected = (shards / "similarity.order").read_bytes()
        check_kills(program, shards, folder, expected)
        check_processes(program, shards, folder, expected)
        check_mistakes(program, shards, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
