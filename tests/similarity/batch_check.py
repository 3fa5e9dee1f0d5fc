"""`lorikeet data batch` on the quickstart corpus, lexical and with a tiny BERT of random weights: killed with SIGKILL at many
moments it ends with the order of an undisturbed run; two processes make the order of one; mistakes end with one error and
the right code, and lose nothing.

usage: batch_check.py PROGRAM SOURCE
"""

import json
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
import tiny_bert

STAGES = ["embed", "neighbours", "filter", "deduplicate", "path", "order"]


def batch(program, shards, *options, env=None):
    return subprocess.run([program, "data", "batch", shards, *map(str, options)], capture_output=True, text=True,
                          env={**os.environ, **(env or {})})


def check_kills(program, shards, folder, expected, options):
    """Kills each run a little later than the one before, until one ends by itself; then does so within each stage
    by starting where the stage before ended."""
    killed = 0
    for stage in [None] + STAGES[:-1]:
        work, output = folder / f"killed_{stage}", folder / f"killed_{stage}.order"
        if stage:
            assert batch(program, shards, *options, "--work", work, "--until", stage).returncode == 0
        delay = 0.005
        while True:
            run = subprocess.Popen([program, "data", "batch", shards, *options, "--work", work, "--output", output],
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


def environment(launcher, rank, world_size=2):
    """What the launcher tells a rank of one node."""
    names = {"torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
             "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
             "srun": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE")}[launcher]
    more = {"torchrun": {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}, "mpirun": {},
            "srun": {"SLURM_STEP_NODELIST": "node1", "SLURM_NODEID": "0", "SLURM_JOB_ID": "7"}}[launcher]
    return {**dict(zip(names, map(str, (rank, world_size, rank, world_size)))), **more}


def check_processes(program, shards, folder, expected, options):
    for launcher in ("torchrun", "mpirun", "srun"):
        work, output = folder / launcher, folder / f"{launcher}.order"
        command = [program, "data", "batch", shards, *options, "--work", work, "--output", output]
        runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment(launcher, rank)})
                for rank in (1, 0)]
        printed = [run.communicate(timeout=300)[0] for run in runs]
        assert [run.returncode for run in runs] == [0, 0], launcher
        assert not printed[0] and ".order:" in printed[1], f"{launcher}: not one rank of two: {printed}"
        assert output.read_bytes() == expected, f"another order with two processes of {launcher}"


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
    expect_error(2, "RANK", batch(program, shards, env={**environment("torchrun", 1), "RANK": "2"}))
    expect_error(2, "WORLD_SIZE", batch(program, shards, env={"WORLD_SIZE": "two"}))
    expect_error(2, "--force", batch(program, shards, "--force", env=environment("srun", 0)))
    (folder / "file").write_text("")
    expect_error(3, "file", batch(program, shards, "--work", folder / "file"))
    foreign = folder / "foreign"
    shutil.copytree(shards / "similarity", foreign)
    stage = foreign / "path.stage"
    stage.write_bytes(stage.read_bytes()[:60])
    expect_error(3, "path.stage", batch(program, shards, "--work", foreign))
    assert batch(program, shards, "--work", foreign, "--force").returncode == 0


def check_encoder_mistakes(program, shards, folder, model):
    order = (shards / "similarity.order").read_bytes()
    broken = tiny_bert.make(folder / "broken", nan_piece="e")
    expect_error(3, "gives it a vector that is not finite", batch(program, shards, "--encoder", broken, "--work", folder / "nan"))
    expect_error(4, "config.json", batch(program, shards, "--encoder", folder / "nowhere", "--work", folder / "nan"))
    (broken / "model.safetensors").unlink()
    expect_error(4, "broken", batch(program, shards, "--encoder", broken, "--work", folder / "nan"))
    expect_error(2, "--device", batch(program, shards, "--encoder", model, "--device", "cuda", env={"CUDA_VISIBLE_DEVICES": ""}))
    assert (shards / "similarity.order").read_bytes() == order, "an order was lost"


def check_another_corpus(program, shards, folder, options):
    """Between two stages the shards are made anew from other documents, some of them next to nothing."""
    here = folder / "changed"
    tokenizer = shards / "tokenizer.model"

    def tokenize(texts, *more):
        (here / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        subprocess.run([program, "data", "tokenize", "--input", here / "text.jsonl", "--tokenizer", tokenizer, "--held-out", "0",
                        "--output", here / "shards", *more], check=True, capture_output=True)

    here.mkdir()
    tokenize([f"document {i} of {i % 7}" for i in range(90)])
    assert batch(program, here / "shards", *options).returncode == 0
    before = (here / "shards/similarity.order").read_bytes()
    (here / "shards/similarity/path.stage").unlink()
    tokenize([" ", ".", "\u0001", "spam " * 60] + ["one and the same"] * 20, "--force")
    expect_error(3, "was made for data with fingerprint", batch(program, here / "shards", *options))
    assert (here / "shards/similarity.order").read_bytes() == before, "an order was lost"
    result = batch(program, here / "shards", *options, "--duplicates", "mark", "--filters", "drop", "--force", "--report")
    assert result.returncode == 0 and ": 23 documents" in result.stdout, result
    assert "repeat an earlier one; they are kept" in result.stdout, "marked duplicates were kept, filtered documents went"


def main(program, source):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        shards = quickstart_shards.make(program, source, folder)
        model = tiny_bert.make(folder / "model")
        for label, options in (("encoder", ["--encoder", model, "--chunks", "4", "--device", "cpu"]), ("lexical", [])):
            here = folder / label
            here.mkdir()
            result = batch(program, shards, *options, "--force")
            assert result.returncode == 0, result.stderr
            expected = (shards / "similarity.order").read_bytes()
            check_kills(program, shards, here, expected, options)
            check_processes(program, shards, here, expected, options)
            check_another_corpus(program, shards, here, options)
        check_encoder_mistakes(program, shards, folder, model)
        check_mistakes(program, shards, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
