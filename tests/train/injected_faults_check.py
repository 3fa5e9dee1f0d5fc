#!/usr/bin/env python3
"""Hundreds of faults in runs of two and three ranks, without a launcher: one rank is killed (or asked to stop) at a
random moment, all others must end with code 6 (75 where they were asked, 0 where the run was over) in bounded time,
and the run, started again until it is finished, must be the run of one process to the last bit.

    injected_faults_check.py LORIKEET_PROGRAM [--faults 300] [--seed N] [--jobs 3] [--timeout SECONDS]

Deterministic but for the moment: --seed draws the same ranks, kinds and delays again.
"""

import argparse
import collections
import concurrent.futures
import random
import signal
import sys
import time

import fault_runs
from fault_runs import COMMUNICATION, EVERY, PREEMPTED

STEPS = 30
LAYOUTS = {"zero3": (1, 2, 3), "replicas": (2, 1, 0), "zero1": (1, 3, 1), "three": (3, 1, 0)}
# How often: faults while the ranks meet cost a time limit each, since the others have nothing else to go by.
KINDS = {"step": 45, "save": 30, "end": 12, "start": 5, "stop": 8}


class Series:
    """One layout's faults, one after the other; a run that is finished is followed by another."""

    def __init__(self, workshop, name, num_faults, seed, timeout):
        self.workshop, self.name, self.num_faults, self.timeout = workshop, name, num_faults, timeout
        self.draw = random.Random(f"{seed} {name}")
        replicate, shard, zero = LAYOUTS[name]
        self.size = replicate * shard
        self.settings = {**fault_runs.layout(replicate, shard, zero, timeout), "train.steps": STEPS}
        self.counts, self.lost, self.slowest = collections.Counter(), [], 0.0
        self.start_seconds = 0.5  # until the first step, as last seen

    def run(self):
        number = 0
        while sum(self.counts.values()) - self.counts["none"] < self.num_faults:
            number += 1
            run = self.workshop.run(f"{self.name}_{number}")
            previous = None
            while True:
                previous, is_finished = self.life(run, previous)
                if is_finished:
                    break
            run.require_same(self.workshop.run(f"one_{self.size}"))
            assert run.state() == "finished", run.state()
        return self

    def life(self, run, previous):
        """One start of all ranks, and how it ends. @return the fault, and whether the run is over"""
        is_enough = sum(self.counts.values()) - self.counts["none"] >= self.num_faults
        kind = "none" if is_enough else self.draw.choices(list(KINDS), list(KINDS.values()))[0]
        victim = self.draw.randrange(self.size)
        with fault_runs.Ranks(self.workshop, run.name, self.settings, self.size) as ranks:
            if kind != "none" and not self.wait_for_moment(kind, run, ranks):
                kind = "none"  # over, or fallen by itself: then the codes say
            if previous:
                previous.require_resumed()
            fault = fault_runs.Fault(run)
            if kind != "none":
                ranks.send(victim, signal.SIGTERM if kind == "stop" else signal.SIGKILL)
            begun = time.monotonic()
            codes = ranks.wait(10 * self.timeout if kind == "none" else 4 * self.timeout + 20)
            took = time.monotonic() - begun
            said = "\n".join(ranks.said(rank)[-600:] for rank in range(self.size))
        self.counts[kind] += 1
        self.judge(kind, victim, codes, said, was_over=fault.step >= STEPS)
        lost = fault.settle()
        if kind != "none":
            self.lost.append(lost)
            self.slowest = max(self.slowest, took)
            print(f"{run.name}: {kind} of rank {victim} at step {fault.step}: codes {codes} after {took:.2f} s, "
                  f"{lost} steps lost", flush=True)
        return fault, codes == [0] * self.size

    def wait_for_moment(self, kind, run, ranks):
        """Until the fault's time has come; false where the ranks ended first."""
        before, step, begun, since = run.starts(), run.step(), time.monotonic(), time.time()
        must_resume = run.checkpoint() > 0
        at_step = {"step": step + self.draw.randrange(1, 8), "stop": step + self.draw.randrange(0, 8),
                   "save": 0, "start": 0, "end": STEPS - self.draw.randrange(0, 2)}[kind]
        delay = self.draw.random() * {"step": 0.02, "save": 0.004, "end": 0.03, "start": self.start_seconds,
                                      "stop": 0.02}[kind]
        is_here = {
            "start": lambda: True,
            "save": lambda: run.is_saving(since),
            # The metrics of steps that will be done again are cut away when the run has resumed.
            "step": lambda: run.step() >= at_step and (run.starts() != before or not must_resume),
        }
        reached = is_here.get(kind, lambda: run.step() >= at_step)
        while not reached():
            if not ranks.all_run():
                return False
            assert time.monotonic() - begun < 20 * self.timeout, f"{run.name}: neither goes on nor ends"
            time.sleep(0.002)
        if kind in ("step", "stop"):
            self.start_seconds = min(5.0, time.monotonic() - begun)
        time.sleep(delay)
        return ranks.all_run()

    def judge(self, kind, victim, codes, said, was_over):
        """@param was_over  the last step was logged before the fault"""
        for rank, code in enumerate(codes):
            allowed = {COMMUNICATION, PREEMPTED}
            if was_over or kind in ("none", "end", "stop"):  # else somebody must have missed the victim
                allowed.add(0)
            if rank == victim and kind != "none":
                allowed.add(-signal.SIGTERM if kind == "stop" else -signal.SIGKILL)
            assert code in allowed, f"{self.name}: {kind} of rank {victim}: codes {codes}:\n{said}"
        if kind == "stop" and -signal.SIGTERM not in codes:  # else it was not yet listening
            assert len(set(codes)) == 1, f"{self.name}: a stop: codes {codes}:\n{said}"
        elif kind not in ("none", "stop"):
            assert PREEMPTED not in codes, f"{self.name}: codes {codes}:\n{said}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--timeout", type=int, default=10, help="parallel.timeout in seconds")
    options = parser.parse_args()
    begun = time.monotonic()
    with fault_runs.Workshop(options.program, options.seed) as workshop:
        for size in (2, 3):
            workshop.unbroken(f"one_{size}", {**fault_runs.layout(size), "train.steps": STEPS})
        share = -(-options.faults // len(LAYOUTS))
        all_series = [Series(workshop, name, share, options.seed, options.timeout) for name in LAYOUTS]
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            done = list(pool.map(Series.run, all_series))
    counts = sum((series.counts for series in done), collections.Counter())
    lost = [steps for series in done for steps in series.lost]
    num_undisturbed = counts.pop("none", 0)
    print(f"{len(lost)} faults in {time.monotonic() - begun:.0f} s: {dict(sorted(counts.items()))}; "
          f"{num_undisturbed} starts without one; steps lost: {sum(lost)} in all, {max(lost)} at most (a checkpoint "
          f"every {EVERY}); the others ended within {max(series.slowest for series in done):.2f} s")
    assert len(lost) >= options.faults
    return 0


if __name__ == "__main__":
    sys.exit(main())
