"""What the checks of failing ranks share: a tiny run, its ranks as child processes, what is left of it.

A sequence is a micro-batch, and a rank has one a step, so that a run of any number of ranks must have exactly the
losses and the weights of one process (docs/parallel.md, "The same numbers").
"""

import glob
import json
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import time

SKIPPED = 77
COMMUNICATION, PREEMPTED = 6, 75
EVERY = 5  # steps between checkpoints
LAUNCHER_VARIABLES = re.compile(
    "RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_.*|GLOO_.*|TORCHELASTIC_.*|SLURM_.*|OMPI_.*")

# Some 10,000 parameters.
CONFIG = """
model: {hidden_size: 16, num_layers: 2, num_heads: 2, ffn_size: 24, vocab_size: 400, context_length: 32,
  feed_forward: {kind: merged, num_experts: 4, segment_length: 8, router_init_std: 0.5}}
train: {device: cpu, micro_batch: 1, threads: 1}
schedule: {peak: 1e-2}
evaluate: {every: never, batches: 2}
log: {every: 1steps, tensorboard: false, peak_flops: 1e9}
"""
# Steps of some 20 ms or more, so that a fault finds the run in its middle.
SLOW_STEPS = {"model.hidden_size": 64, "model.ffn_size": 172, "model.context_length": 128,
              "model.feed_forward.segment_length": 32}


def clean_environment(**more):
    """Without what a launcher around this process has left."""
    kept = {key: value for key, value in os.environ.items() if not LAUNCHER_VARIABLES.fullmatch(key)}
    return {**kept, "OMP_NUM_THREADS": "1", **more}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(condition, seconds, what, pause=0.002):
    """Returns the condition's first true value; an AssertionError after `seconds`, so that nothing here hangs."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(pause)


class Workshop:
    """A folder with data, a configuration and runs; gone with the object."""

    def __init__(self, program, seed):
        self.program = program
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = self.temporary.name
        self.config = self.folder + "/run.yaml"
        with open(self.config, "w") as file:
            file.write(CONFIG + f"data: {{shards: {self._make_data()}}}\n"
                       f"checkpoint: {{every: {EVERY}steps}}\noutput: {self.folder}\n")
        print(f"seed {seed}", flush=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.temporary.cleanup()

    def _make_data(self):
        draw = random.Random(1)
        words = ["".join(draw.choices("abcdefghijklmnopqrst", k=draw.randint(2, 7))) for _ in range(300)]
        text, tokenizer, shards = (self.folder + "/" + name for name in ("text.jsonl", "tokenizer.model", "shards"))
        with open(text, "w") as file:
            for number in range(600):
                line = {"text": " ".join(draw.choices(words, k=40)), "domain": "ab"[number % 2]}
                file.write(json.dumps(line) + "\n")
        data = [self.program, "data"]
        for command in ([*data, "tokenizer", "--input", text, "--vocab-size", "400", "--output", tokenizer],
                        [*data, "tokenize", "--input", text, "--tokenizer", tokenizer, "--held-out", "10%",
                         "--output", shards]):
            subprocess.run(command, check=True, capture_output=True, timeout=120)
        return shards

    def command(self, name, settings):
        every = {"name": name, **settings}
        return [self.program, "pretrain", self.config,
                *(word for key, value in every.items() for word in ("--set", f"{key}={value}"))]

    def run(self, name):
        return Run(self.folder, name)

    def unbroken(self, name, settings, seconds=600):
        """The same run by one process."""
        alone = {key: value for key, value in settings.items() if not key.startswith("parallel.")}
        ended = subprocess.run(self.command(name, alone), env=clean_environment(), capture_output=True, text=True,
                               timeout=seconds)
        assert ended.returncode == 0, ended.stderr
        return self.run(name)


class Run:
    """What a run has left in its folder."""

    def __init__(self, folder, name):
        self.name = name
        self.folder = os.path.join(folder, name)

    def _read(self, name, mode="r"):
        with open(os.path.join(self.folder, name), mode) as file:
            return file.read()

    def state(self):
        return json.loads(self._read("status.json"))["state"]

    def rows(self):
        """Logged steps, without what depends on the clock, the machine or the layout."""
        kept = ("step", "tokens", "loss", "first_segment_loss", "grad_norm", "learning_rate", "skipped_steps")
        try:
            lines = self._read("metrics.jsonl").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
        return [{key: row[key] for key in kept} for row in rows if "loss" in row]

    def step(self):
        rows = self.rows()
        return rows[-1]["step"] if rows else 0

    def checkpoint(self):
        """The newest whole one's step; 0 where there is none."""
        return max((int(path[-8:]) for path in glob.glob(self.folder + "/checkpoints/step_" + "[0-9]" * 8)), default=0)

    def is_saving(self, since):
        """A checkpoint is being written. @param since  time.time() at the start: what an earlier fault has left lies
        there until the next save"""
        try:
            return any(os.stat(path).st_ctime > since for path in glob.glob(self.folder + "/checkpoints/*.tmp"))
        except FileNotFoundError:  # it has got its name
            return False

    def starts(self):
        """The step at which each start since the first checkpoint went on."""
        try:
            return [int(step) for step in re.findall(r"resumed at step (\d+) of", self._read("log.txt"))]
        except FileNotFoundError:
            return []

    def require_same(self, other):
        """To the last bit of every number."""
        mine, theirs = self.rows(), other.rows()
        assert len(mine) == len(theirs), f"{self.name}: {len(mine)} steps instead of {len(theirs)}"
        for row, expected in zip(mine, theirs):
            assert row == expected, f"{self.name}: {row} instead of {expected}"
        model = "model/model.safetensors"
        assert self._read(model, "rb") == other._read(model, "rb"), f"{self.name}: the weights differ"


class Fault:
    """What one fault costs: the run before it, and the step from which the next start goes on."""

    def __init__(self, run):
        self.run = run
        self.step, self.checkpoint, self.num_starts = run.step(), run.checkpoint(), len(run.starts())
        self.resumes_at = None

    def settle(self):
        """Once all ranks are gone. Nothing but the steps since the newest whole checkpoint may be lost; and that is at
        most two periods old, since a save waits for the one before. @return how many of the logged steps are lost"""
        self.resumes_at = self.run.checkpoint()
        assert self.resumes_at >= self.checkpoint, f"{self.run.name}: the checkpoint of step {self.checkpoint} is gone"
        lost = max(0, self.step - self.resumes_at)
        assert lost <= 2 * EVERY, f"{self.run.name}: {lost} steps are lost at step {self.step}"
        return lost

    def require_resumed(self):
        """Where a start since then has come to loading, it has loaded that checkpoint."""
        later = self.run.starts()[self.num_starts:]
        if self.resumes_at and later:
            assert later[0] == self.resumes_at, f"{self.run.name}: went on from {later[0]} instead of {self.resumes_at}"


def layout(replicate=1, shard=1, zero=0, timeout=10):
    """One sequence a rank and step."""
    return {"parallel.replicate": replicate, "parallel.shard": shard, "parallel.zero": zero,
            "parallel.timeout": f"{timeout}s", "train.batch_sequences": replicate * shard}


class Ranks:
    """The ranks of a run without a launcher; whatever still runs is killed at the end of a `with`."""

    def __init__(self, workshop, name, settings, size, environment=None, prefix=None):
        """@param environment, prefix  by rank: more variables, words before the command"""
        port = free_port()
        self.errors = [os.path.join(workshop.folder, f"{name}_{rank}.err") for rank in range(size)]
        self.children = []
        for rank in range(size):
            variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size,
                         "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo",
                         **(environment(rank) if environment else {})}
            with open(self.errors[rank], "w") as errors:
                self.children.append(subprocess.Popen(
                    [*(prefix(rank) if prefix else []), *workshop.command(name, settings)], stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL, stderr=errors,
                    env=clean_environment(**{key: str(value) for key, value in variables.items()})))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.kill()
            child.wait()

    def send(self, rank, number):
        if self.children[rank].poll() is None:
            self.children[rank].send_signal(number)

    def all_run(self):
        return all(child.poll() is None for child in self.children)

    def said(self, rank):
        with open(self.errors[rank]) as file:
            return file.read()

    def wait(self, seconds):
        """Every rank's code, minus the signal for a killed one. @raises AssertionError for one that still runs"""
        deadline = time.monotonic() + seconds
        codes = []
        for rank, child in enumerate(self.children):
            try:
                codes.append(child.wait(max(0.01, deadline - time.monotonic())))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"rank {rank} of {len(self.children)} still runs after {seconds} s; "
                                     f"so far {codes}; it said: {self.said(rank)[-2000:]}") from None
        return codes


def signal_name(number):
    return signal.Signals(number).name
