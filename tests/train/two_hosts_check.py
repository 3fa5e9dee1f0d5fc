#!/usr/bin/env python3
"""Two hosts: two network namespaces with an address each and a cable (veth) between them, a rank on each. The cable is
pulled in the middle of a step, while a checkpoint is written, and before the ranks have met: no packet says that the
other is gone, so both must find out by themselves, and end with code 6 in bounded time. Plugged in again, the run
goes on over a slow cable (slow_cable.py), and is the run of one process to the last bit.

    two_hosts_check.py LORIKEET_PROGRAM [--seed N] [--timeout SECONDS]

Exits 77 (skipped) where namespaces cannot be made: it needs root and iproute2. The part with a slow cable also needs
/dev/net/tun, and says so where it is missing.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import time

import fault_runs
from fault_runs import COMMUNICATION

STEPS = 60
DELAY = 5  # milliseconds, each way
ADDRESSES = ["10.231.77.1", "10.231.77.2"]


class Skipped(Exception):
    pass


def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True, timeout=30)


class Cable:
    """Two namespaces and what joins them; gone with the object."""

    def __init__(self):
        if os.geteuid() != 0:
            raise Skipped("network namespaces need root")
        if not shutil.which("ip"):
            raise Skipped("there is no `ip` (package iproute2)")
        number = os.getpid() % 100000
        self.hosts = [f"lorikeet{number}_{rank}" for rank in (0, 1)]
        self.ends = [f"lk{number}_{rank}" for rank in (0, 1)]
        self.slow_cable = None
        self.port = 29400  # another for each start: what a cut has left open may still hold the last

    def __enter__(self):
        try:
            for host in self.hosts:
                ip("netns", "add", host)
            ip("link", "add", self.ends[0], "netns", self.hosts[0], "type", "veth", "peer", "name", self.ends[1],
               "netns", self.hosts[1])
            self.address()
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failure:
            self.__exit__()
            raise Skipped(f"network namespaces cannot be made: {failure} {failure.stderr}") from None
        return self

    def address(self):
        for host, end, address in zip(self.hosts, self.ends, ADDRESSES):
            ip("-n", host, "address", "add", address + "/24", "dev", end)
            ip("-n", host, "link", "set", "lo", "up")
            ip("-n", host, "link", "set", end, "up")

    def __exit__(self, *_):
        if self.slow_cable:
            self.slow_cable.kill()
            self.slow_cable.wait()
        for host in self.hosts:  # and with them the cable
            ip("netns", "delete", host, check=False)

    def cut(self, rank):
        ip("-n", self.hosts[rank], "link", "set", self.ends[rank], "down")

    def join(self):
        for host, end in zip(self.hosts, self.ends):
            ip("-n", host, "link", "set", end, "up")

    def delay(self, milliseconds):
        """Another cable, which is slow. @return what is against it"""
        if not os.path.exists("/dev/net/tun"):
            return "there is no /dev/net/tun"
        ip("-n", self.hosts[0], "link", "delete", self.ends[0])
        ends = [word for pair in zip(self.hosts, self.ends) for word in pair]
        self.slow_cable = subprocess.Popen([sys.executable, os.path.join(os.path.dirname(__file__), "slow_cable.py"), *ends,
                                            str(milliseconds)], stdout=subprocess.PIPE, text=True)
        assert self.slow_cable.stdout.readline() == "ready\n", "the slow cable cannot be laid"
        self.address()
        return ""

    def round_trip(self):
        """Milliseconds until the other host refuses a connection to a port where nobody listens."""
        code = (f"import socket, time; begun = time.monotonic(); "
                f"socket.socket().connect_ex(('{ADDRESSES[1]}', 9)); print(1000 * (time.monotonic() - begun))")
        times = [float(subprocess.run(["ip", "netns", "exec", self.hosts[0], sys.executable, "-c", code], check=True,
                                      capture_output=True, text=True, timeout=30).stdout) for _ in range(3)]
        return min(times)  # the first one asks for the other's hardware address, too

    def start(self, workshop, name, settings):
        self.port += 1
        return fault_runs.Ranks(
            workshop, name, settings, 2,
            environment=lambda rank: {"MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": self.port, "LOCAL_RANK": 0,
                                      "LOCAL_WORLD_SIZE": 1, "GLOO_SOCKET_IFNAME": self.ends[rank]},
            prefix=lambda rank: ["ip", "netns", "exec", self.hosts[rank]])


def cut_once(cable, workshop, run, settings, moment, end, timeout):
    """Starts, pulls the cable at host `end` when `moment` says so, and looks at what the ranks do.
    @return false where the ranks have ended before: on a busy machine one may start later than the other waits"""
    before, since = run.step(), time.time()
    reached = {"in a step": lambda: run.step() >= before + 7,
               "in a save": lambda: run.is_saving(since),
               "before they meet": lambda: True}[moment]
    with cable.start(workshop, run.name, settings) as ranks:
        fault_runs.wait_until(lambda: reached() or not ranks.all_run(), 40 * timeout, f"{run.name}: {moment}")
        if not ranks.all_run():
            codes = ranks.wait(3 * timeout + 20)
            assert set(codes) == {COMMUNICATION}, f"before the cut: {codes}:\n{ranks.said(0)}\n{ranks.said(1)}"
            print(f"the ranks did not find each other within {timeout} s", flush=True)
            return False
        fault = fault_runs.Fault(run)
        cable.cut(end)
        begun = time.monotonic()
        # A time limit (plus an eighth, twice), 10 s at most for the message; once more where the ranks had not met.
        codes = ranks.wait(3 * timeout + 20)
        took = time.monotonic() - begun
        said = [ranks.said(rank) for rank in (0, 1)]
    assert codes == [COMMUNICATION, COMMUNICATION], f"{moment}: codes {codes}:\n{said[0]}\n{said[1]}"
    for rank in (0, 1):
        reasons = [line for line in said[rank].splitlines() if "rank " in line or "meeting point" in line]
        assert reasons, f"rank {rank} does not say what is wrong: {said[rank]}"
        print(f"  rank {rank}: {reasons[0][:200]}")
    print(f"cut {moment} at host {end}, step {fault.step}: both ended with 6 within {took:.1f} s, "
          f"{fault.settle()} steps lost", flush=True)
    cable.join()
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--timeout", type=int, default=5, help="parallel.timeout in seconds")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with Cable() as cable, fault_runs.Workshop(options.program, options.seed) as workshop:
        settings = {**fault_runs.SLOW_STEPS, **fault_runs.layout(shard=2, zero=3, timeout=options.timeout),
                    "train.steps": STEPS}
        one = workshop.unbroken("one", settings)
        run = workshop.run("two")
        for moment in ("in a step", "in a save", "before they meet", "in a step"):
            end = draw.randrange(2)
            assert any(cut_once(cable, workshop, run, settings, moment, end, options.timeout) for _ in range(3)), moment
        refused = cable.delay(DELAY)
        print(f"a cable with a delay of {DELAY} ms: not tried: {refused}" if refused else
              f"from here on a cable with a delay of {DELAY} ms: {cable.round_trip():.1f} ms there and back", flush=True)
        assert refused or cable.round_trip() >= 2 * DELAY
        before = run.step()
        with cable.start(workshop, run.name, settings) as ranks:
            codes = ranks.wait(60 * options.timeout)
            assert codes == [0, 0], f"{codes}:\n{ranks.said(0)}\n{ranks.said(1)}"
        print(f"{STEPS - before} steps over this cable")
        run.require_same(one)
    print("4 cuts; then finished, with the losses and weights of one process")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Skipped as reason:
        print(f"skipped: {reason}")
        sys.exit(fault_runs.SKIPPED)
