"""`lorikeet compare` from outside: trains what is missing, is killed and goes on, trains nothing twice, refuses what cannot
be compared, and draws a page. Exits 77 where that page cannot be drawn, after all the rest.

usage: compare_check.py PROGRAM SOURCE [KEEP_PICTURE]
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import browser
import quickstart_shards

STEPS, SEQUENCES, LENGTH = 60, 4, 64
CONFIG = """
name: {name}
output: {folder}/runs
model:
  hidden_size: 32
  num_layers: 2
  num_heads: 2
  ffn_size: 64
  vocab_size: 1000
  context_length: 64
  feed_forward: {ffn}
data: {{shards: {folder}/shards}}
train: {{device: cpu, steps: {steps}, batch_sequences: 4, micro_batch: 4, threads: 1}}
schedule: {{peak: 3.0e-3}}
checkpoint: {{every: 10steps, keep_last: 2}}
evaluate: {{every: 20steps, batches: 1}}
log: {{every: 1steps}}
"""
MERGED = "{kind: merged, num_experts: 4, segment_length: 16}"
NAMES = [f"{setting}_seed{seed}" for setting in ("merged", "dense") for seed in (1, 2)]


class Checks:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.configs = [self.config("merged", MERGED), self.config("dense", "{kind: dense}")]
        self.command = [program, "compare", *self.configs, "--seeds", "1,2"]

    def config(self, name, ffn):
        path = self.folder / f"{name}.yaml"
        path.write_text(CONFIG.format(name=name, steps=STEPS, folder=self.folder, ffn=ffn))
        return str(path)

    def run(self, *more, code=0):
        done = subprocess.run([*self.command, *more], capture_output=True, text=True, timeout=120)
        assert done.returncode == code, (done.returncode, done.stderr)
        return done

    def rows(self, name):
        path = self.folder / "runs" / name / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def stop_in_the_middle(self, name, signal_number, code):
        """Sends a signal once a run has begun its third step."""
        process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while len(self.rows(name)) < 3 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        process.send_signal(signal_number)
        assert process.wait(60) == code, process.returncode
        time.sleep(0.5)  # the run that it had started ends with it

    def trains_what_is_missing(self):
        self.stop_in_the_middle(NAMES[1], signal.SIGKILL, -signal.SIGKILL)
        self.stop_in_the_middle(NAMES[2], signal.SIGTERM, 75)
        out = self.run().stdout
        for name in NAMES:
            steps = [row["step"] for row in self.rows(name) if "loss" in row]
            assert steps == list(range(1, STEPS + 1)), (name, steps)
        before = {name: (self.folder / "runs" / name / "metrics.jsonl").stat().st_mtime_ns for name in NAMES}
        assert self.run().stdout == out, "a second call says something else"
        assert self.run("--no-run").stdout == out
        after = {name: (self.folder / "runs" / name / "metrics.jsonl").stat().st_mtime_ns for name in NAMES}
        assert before == after, "something was trained twice"

    def computes_what_the_metrics_say(self):
        report = json.loads(self.run("--no-run", "--json").stdout)
        assert report["reference"] == "dense" and report["equal_tokens"] == STEPS * SEQUENCES * LENGTH
        last = {name: [row for row in self.rows(name) if "validation" in row][-1]["validation"] for name in NAMES}
        for setting in report["settings"]:
            name = setting["name"]
            losses = [last[f"{name}_seed{seed}"]["mean"] for seed in (1, 2)]
            over = [last[f"{name}_seed{seed}"]["mean"] - last[f"dense_seed{seed}"]["mean"] for seed in (1, 2)]
            assert abs(setting["loss"]["mean"] - sum(losses) / 2) < 1e-9
            assert abs(setting["loss_difference"]["mean"] - sum(over) / 2) < 1e-9
            assert setting["loss_difference"]["low"] == min(over) and setting["loss"]["high"] == max(losses)
            domains = {d: [last[f"{name}_seed{seed}"][d] for seed in (1, 2)] for d in last["dense_seed1"] if d != "mean"}
            assert len(domains) > 1
            for domain, values in domains.items():
                assert abs(setting["domains"][domain]["mean"] - sum(values) / 2) < 1e-9
        differences = report["settings"][0]["differences"]
        assert "model.feed_forward.num_experts: 4" in differences, differences
        assert not report["settings"][1]["differences"]

    def reads_what_has_not_ended_or_diverged(self):
        half = [self.program, "compare", *self.configs, "--set", f"output={self.folder}/half"]
        once = subprocess.Popen(half, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        path = self.folder / "half/dense/metrics.jsonl"
        end = time.monotonic() + 60
        while time.monotonic() < end and not (path.exists() and '"validation"' in path.read_text()):
            time.sleep(0.005)
        once.kill()
        once.wait()
        table = subprocess.run([*half, "--no-run"], capture_output=True, text=True, check=True).stdout
        assert "dense is not at its end of 60 steps" in table and "after 5,120 tokens" in table, table
        status = self.folder / "half/dense/status.json"
        status.write_text(json.dumps(dict(json.loads(status.read_text()), state="diverged")))
        done = subprocess.run(half, capture_output=True, text=True)
        assert done.returncode == 0 and "dense diverged" not in done.stderr, done.stderr
        assert "dense is diverged at step" in done.stdout and "left out" in done.stdout, done.stdout

    def refuses_what_cannot_be_compared(self):
        error = self.run("--set", "model.hidden_size=64", code=2).stderr
        assert "model.hidden_size" in error and "error:" in error, error
        error = self.run("--no-run", "--set", "model.hidden_size=64", code=2).stderr
        assert "model.hidden_size" in error, error
        error = self.run("--against", "dens", "--no-run", code=2).stderr
        assert "did you mean dense?" in error, error
        error = self.run("--no-run", "--set", "schedule.peak=1.0e-3", code=2).stderr
        assert "schedule.peak: 0.003 there, 0.001 now" in error, error
        assert "has not begun" in self.run("--set", "output=elsewhere", "--no-run", code=2).stderr
        assert "cannot be made" in self.run("--no-run", "--output", "/proc/x", code=2).stderr
        twice = subprocess.run([self.program, "compare", self.configs[0], self.configs[0]], capture_output=True, text=True)
        assert twice.returncode == 2 and "two of the runs are called merged" in twice.stderr, twice.stderr
        fresh = [*self.command, "--set", f"output={self.folder}/fresh"]
        ranks = subprocess.run(fresh, capture_output=True, text=True, env=dict(
            os.environ, RANK="0", WORLD_SIZE="2", LOCAL_RANK="0", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="1"))
        assert ranks.returncode == 2 and "one process" in ranks.stderr, ranks.stderr

    def refuses_runs_of_another_order(self, shards):
        def make_order(*options):
            subprocess.run([self.program, "data", "batch", shards, *options], check=True, capture_output=True)

        one = [self.program, "compare", self.configs[1], "--set", f"output={self.folder}/ordered", "--set", "data.order=similarity"]
        make_order()
        assert subprocess.run(one, capture_output=True).returncode == 0
        make_order("--path-shards", "3")
        for more in ([], ["--no-run"]):
            done = subprocess.run([*one, *more], capture_output=True, text=True)
            assert done.returncode == 3 and "dense: was trained on other data: fingerprint" in done.stderr, done.stderr
        order = shards / "similarity.order"
        order.rename(shards / "elsewhere")
        done = subprocess.run([*one, "--no-run"], capture_output=True, text=True)
        assert done.returncode == 0 and "cannot be told" in done.stderr, done.stderr
        make_order()
        assert subprocess.run(one, capture_output=True).returncode == 0

    def draws_a_page(self, keep):
        page = self.folder / "runs/compare/report.html"
        dom = browser.elements(page, self.folder)
        assert dom.count("<svg") == 4 and dom.count("<table") == 3 and dom.count("<path") == 8, dom[:500]
        counts = browser.colours(page, self.folder, {"merged": ((11, 122, 117), [1]), "dense": ((208, 140, 43), [1])}, keep)
        print(counts)
        assert counts["merged"] > 500 and counts["dense"] > 500 and counts["text"] > 5000, counts


def main(program, source, keep=None):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        shards = quickstart_shards.make(program, source, folder)
        checks = Checks(program, folder)
        checks.trains_what_is_missing()
        checks.computes_what_the_metrics_say()
        checks.reads_what_has_not_ended_or_diverged()
        checks.refuses_what_cannot_be_compared()
        checks.refuses_runs_of_another_order(shards)
        if browser.missing():
            print(f"all but the page is well; not drawn: {browser.missing()} is not installed")
            return 77
        checks.draws_a_page(keep)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
