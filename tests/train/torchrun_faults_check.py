#!/usr/bin/env python3
"""Faults in runs under torchrun, which starts all ranks again after each: kill -9 of a rank (in a step, while a
checkpoint is written, during start), of several at once, SIGSTOP of one, SIGTERM of one. The run must finish as the run
of one process to the last bit, go on each time from the newest whole checkpoint, and never hang.

    torchrun_faults_check.py LORIKEET_PROGRAM TORCHRUN [--source FOLDER] [--seed N] [--timeout SECONDS] [--only NAME]

Two ranks with ZeRO-3 and four replicas under torchrun's own restarts; then two ranks under scripts/launch/torchrun.sh
of the source folder without any, so that the script brings the run back.
"""

import argparse
import collections
import glob
import os
import random
import signal
import subprocess
import sys
import time

import fault_runs

STEPS = 150
SPARE_RESTARTS = 5
DECK = ["kill in a step", "kill in a save", "kill during start", "kill in a step", "SIGSTOP", "SIGTERM",
        "kill two", "kill in a save"]
SCRIPT_DECK = ["kill in a step", "SIGTERM", "kill in a save", "kill two"]


def children_of(pid):
    """All below a process."""
    found, unseen = [], [pid]
    while unseen:
        parent = unseen.pop()
        for path in glob.glob(f"/proc/{parent}/task/*/children"):
            try:
                with open(path) as file:
                    unseen += map(int, file.read().split())
            except OSError:  # it has just ended
                continue
        found += [parent] if parent != pid else []
    return found


def ranks_of(pid, program):
    """Process by rank."""
    ranks = {}
    for child in children_of(pid):
        try:
            with open(f"/proc/{child}/cmdline", "rb") as file:
                if file.read().split(b"\0")[0].decode() != program:
                    continue
            with open(f"/proc/{child}/environ", "rb") as file:
                variables = dict(pair.split(b"=", 1) for pair in file.read().split(b"\0") if b"=" in pair)
            ranks[int(variables[b"RANK"])] = child
        except (OSError, KeyError):  # it has just ended, or is not yet what it will be
            continue
    return ranks


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Session:
    def __init__(self, run, process, program, size, bound, draw):
        self.run, self.process, self.program = run, process, program
        self.size, self.bound, self.draw = size, bound, draw
        self.old, self.lost, self.num_falls = set(), [], 0
        self.starts, self.resumes_at = [], 0

    def new_ranks(self):
        ranks = ranks_of(self.process.pid, self.program)
        if self.process.poll() is not None:
            raise AssertionError(f"{self.run.name}: ended with {self.process.returncode} before all faults were made")
        if len(ranks) == self.size and not self.old & set(ranks.values()):
            return ranks
        return None

    def wait(self, condition, what):
        return fault_runs.wait_until(lambda: condition() or self.process.poll() is not None, self.bound, what)

    def wait_for_moment(self, kind):
        """@return the ranks, once they are those that were started after the last fault and this one's time has come"""
        ranks = fault_runs.wait_until(self.new_ranks, self.bound, f"{self.run.name}: all ranks are there again")
        since, logged = time.time(), self.run.step()
        goal = logged + self.draw.randrange(1, 7)
        has_ended = lambda: not all(map(is_alive, ranks.values()))
        # The metrics of steps that will be done again are cut away when the run has resumed.
        has_begun = lambda: not self.resumes_at or self.run.starts() != self.starts
        is_at_goal = lambda: self.run.step() >= goal and has_begun()
        if kind == "kill during start":
            time.sleep(self.draw.random() * 0.5)
        elif kind == "kill in a save":
            self.wait(lambda: self.run.is_saving(since) or has_ended(), f"{self.run.name}: a save")
            time.sleep(self.draw.random() * 0.004)
        else:
            self.wait(lambda: is_at_goal() or has_ended(), f"{self.run.name}: step {goal}")
            time.sleep(self.draw.random() * 0.02)
        if not has_ended():
            return ranks
        # On a busy machine one starts later than the others wait; torchrun brings them back from that too.
        self.num_falls += 1
        assert self.num_falls <= SPARE_RESTARTS, f"{self.run.name}: the ranks end by themselves again and again"
        print(f"{self.run.name}: the ranks have ended by themselves", flush=True)
        self.old |= set(ranks.values())
        return None

    def inject(self, kind):
        """One fault."""
        begun, ranks = time.monotonic(), None
        while not ranks:
            ranks = self.wait_for_moment(kind)
        victims = self.draw.sample(sorted(ranks), 2 if kind == "kill two" else 1)
        number = {"SIGSTOP": signal.SIGSTOP, "SIGTERM": signal.SIGTERM}.get(kind, signal.SIGKILL)
        fault = fault_runs.Fault(self.run)
        for victim in victims:
            os.kill(ranks[victim], number)
        self.old |= set(ranks.values())
        fault_runs.wait_until(lambda: not any(map(is_alive, ranks.values())), self.bound,
                              f"{self.run.name}: {kind} of {victims}: all ranks end")
        lost = fault.settle()
        self.starts, self.resumes_at = self.run.starts(), fault.resumes_at
        if kind == "SIGTERM":
            assert lost == 0, f"{self.run.name}: a rank that was asked to stop has lost {lost} steps"
        self.lost.append(lost)
        print(f"{self.run.name}: {kind} of rank {' and '.join(map(str, victims))} at step {fault.step}, "
              f"{time.monotonic() - begun:.1f} s after the last: {lost} steps lost", flush=True)
        return fault

    def finish(self, deck):
        """@return the code of what started the ranks"""
        previous = None
        for kind in deck:
            fault = self.inject(kind)
            if previous:
                previous.require_resumed()
            previous = fault
        code = self.process.wait(self.bound + 60)
        previous.require_resumed()
        return code


def session(workshop, run, command, size, deck, bound, draw):
    """@return steps lost by each fault"""
    environment = fault_runs.clean_environment(GLOO_SOCKET_IFNAME="lo", LORIKEET=workshop.program, PAUSE_SECONDS="0",
                                               MAX_CRASHES="100")
    with open(f"{workshop.folder}/{run.name}.out", "w") as output:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    it = Session(run, process, workshop.program, size, bound, draw)
    try:
        code = it.finish(draw.sample(deck, len(deck)))
        assert code == 0, f"{run.name}: {command[0]} ended with {code}"
        return it.lost
    except Exception:
        with open(f"{workshop.folder}/{run.name}.out") as file:
            print(file.read()[-6000:])
        raise
    finally:
        for pid in [process.pid, *children_of(process.pid)]:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("torchrun")
    parser.add_argument("--source", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--timeout", type=int, default=10, help="parallel.timeout in seconds")
    parser.add_argument("--bound", type=int, default=120, help="seconds in which anything must have happened")
    parser.add_argument("--only", choices=["two", "four", "script"])
    options = parser.parse_args()
    os.environ["TORCHRUN"] = options.torchrun
    runs = {"two": (fault_runs.layout(1, 2, 3, options.timeout), 2, DECK),
            "four": (fault_runs.layout(4, 1, 0, options.timeout), 4, DECK),
            "script": (fault_runs.layout(2, 1, 0, options.timeout), 2, SCRIPT_DECK)}
    lost = collections.defaultdict(list)
    begun = time.monotonic()
    with fault_runs.Workshop(options.program, options.seed) as workshop:
        for name, (layout, size, deck) in runs.items():
            if options.only not in (None, name):
                continue
            draw = random.Random(f"{options.seed} {name}")
            settings = {**fault_runs.SLOW_STEPS, **layout, "train.steps": STEPS}
            torchrun = ["--standalone", f"--nproc-per-node={size}", "--monitor-interval=0.1"]
            pretrain = workshop.command(name, settings)
            restarts = f"--max-restarts={len(deck) + SPARE_RESTARTS}"
            command = [options.torchrun, "--no-python", *torchrun, restarts, *pretrain]
            if name == "script":
                command = [options.source + "/scripts/launch/torchrun.sh", *torchrun, "--max-restarts=0", "--",
                           *pretrain[2:]]
            lost[name] = session(workshop, workshop.run(name), command, size, deck, options.bound, draw)
            one = workshop.unbroken(f"one_{name}", settings)
            workshop.run(name).require_same(one)
            print(f"{name}: {len(deck)} faults, {sum(lost[name])} steps lost in all, {max(lost[name])} at most; then "
                  "finished with the losses and weights of one process", flush=True)
    print(f"{sum(map(len, lost.values()))} faults in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
