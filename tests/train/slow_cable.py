#!/usr/bin/env python3
"""A cable that takes its time: joins two network namespaces by a network device (tap) in each, and carries every frame to the
other side MILLISECONDS later. Without the kernel's netem; needs root and /dev/net/tun.

    slow_cable.py NAMESPACE DEVICE NAMESPACE DEVICE MILLISECONDS

Says "ready" when both devices are there; they live as long as this process."""

import collections
import ctypes
import fcntl
import os
import select
import struct
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
CLONE_NEWNET = 0x40000000
LARGEST_FRAME = 65536


def open_tap(namespace, device):
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/var/run/netns/{namespace}") as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TAP | IFF_NO_PI))
    os.set_blocking(tap, False)
    return tap


def send(tap, frame):
    try:
        os.write(tap, frame)
    except OSError:  # the device is down: frames are lost, as on a cable
        pass


def carry(taps, seconds):
    waiting = {tap: collections.deque() for tap in taps}  # what is on its way to a tap, and when it is there
    other = dict(zip(taps, reversed(taps)))
    while True:
        now = time.monotonic()
        due = [queue[0][0] for queue in waiting.values() if queue]
        ready, _, _ = select.select(taps, [], [], max(0.0, min(due) - now) if due else None)
        now = time.monotonic()
        for tap in ready:
            waiting[other[tap]].append((now + seconds, os.read(tap, LARGEST_FRAME)))
        for tap, queue in waiting.items():
            while queue and queue[0][0] <= now:
                send(tap, queue.popleft()[1])


if __name__ == "__main__":
    first, first_device, second, second_device, milliseconds = sys.argv[1:]
    both = [open_tap(first, first_device), open_tap(second, second_device)]
    print("ready", flush=True)
    carry(both, float(milliseconds) / 1000)
