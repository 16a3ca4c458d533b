"""Where the time of one synchronous call goes: time stamps at every boundary, in both processes, of real calls.

    python benchmarks/sync_call.py [--calls 3000] [--spin]

Stamps are of the machine's monotonic clock, which all processes share. They are put around the transport's system calls
from outside; the code that is measured is not changed. Beside it stands the floor: two bare processes that exchange
messages of the same size over the same kind of socket and do nothing else. ``--spin`` keeps one processor busy
meanwhile, so that processors need not be woken from their sleep. For the built-in unix transport only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import select
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

now = time.perf_counter_ns

#: (name, of the stage that ends at the stamp, whose it is)
STAGES = [
    ("driver: bookkeeping and encoding", "ours"),
    ("driver: sendmsg", "kernel"),
    ("until the worker is awake", "kernel"),
    ("worker: recv, decoding, queueing, arguments", "ours"),
    ("worker: the method, result, encoding", "ours"),
    ("worker: sendmsg", "kernel"),
    ("until the driver is awake", "kernel"),
    ("driver: recv, decoding, completion, value", "ours"),
]


def stamped() -> list[int]:
    """Have this process note when it sends and when it has been woken; returns the list that grows."""
    from ray.builtin import unix_connection, unix_transport
    from ray.runtime import interface

    stamps: list[int] = []

    class Poller(unix_transport._Poller):
        def poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
            events = super().poll(timeout_s)
            if events:
                stamps.append(now())
            return events

    send = unix_connection.UnixConnection.send

    def stamped_send(self: unix_connection.UnixConnection, frames: Sequence[Any]) -> None:
        stamps.append(now())
        send(self, frames)
        stamps.append(now())

    runtime: Any = interface.current()
    runtime.transport._poller.__class__ = Poller
    unix_connection.UnixConnection.send = stamped_send  # type: ignore[method-assign]
    return stamps


def calls(count: int) -> list[list[int]]:
    """Nanoseconds of each stage, for each of ``count`` calls."""
    import ray

    class Echo:
        def __init__(self) -> None:
            self.stamps = stamped()
            self.begun: list[int] = []

        def call(self) -> None:
            self.begun.append(now())

        def collected(self) -> tuple[list[int], list[int]]:
            return self.stamps, self.begun

    actor_class: Any = ray.remote(Echo)
    with ray.init(num_cpus=1, transport="unix", log_to_driver=False):
        echo = actor_class.remote()
        for _ in range(500):
            ray.get(echo.call.remote())
        mine = stamped()
        spans = []
        for _ in range(count):
            started = now()
            first = len(mine)
            ray.get(echo.call.remote())
            spans.append((started, first, len(mine), now()))
        theirs, begun = ray.get(echo.collected.remote())
        rows = []
        begun = begun[-count:]
        for (started, first, last, ended), method in zip(spans, begun, strict=True):
            inside = mine[first:last]
            if len(inside) != 3:  # a heartbeat came between
                continue
            send, sent, woken = inside
            before = [stamp for stamp in theirs if send < stamp <= method]
            after = [stamp for stamp in theirs if method < stamp <= woken]
            if len(before) != 1 or len(after) < 2:
                continue
            # The thread that is woken may run before the call that woke it has returned.
            (heard,), (reply, replied) = before, after[:2]
            edges = [started, send, min(sent, heard), heard, method, reply, min(replied, woken), woken, ended]
            rows.append([later - earlier for earlier, later in itertools.pairwise(edges)])
            theirs = theirs[theirs.index(after[0]) :]
        return rows


def floor(count: int, nbytes: int = 200) -> list[int]:
    """Nanoseconds of a bare round trip."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    child = os.fork()
    end = theirs if child == 0 else ours
    poller = select.epoll()
    poller.register(end, select.POLLIN)
    if child == 0:
        ours.close()
        while True:
            poller.poll()
            data = end.recv(65536)
            if not data:
                os._exit(0)
            end.sendall(data)
    theirs.close()
    times = []
    for _ in range(count):
        started = now()
        end.sendall(bytes(nbytes))
        poller.poll()
        end.recv(65536)
        times.append(now() - started)
    end.close()
    os.waitpid(child, 0)
    return times


def spin() -> None:
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--spin", action="store_true", help="keep one processor busy meanwhile")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    bare = statistics.median(floor(given.calls)) / 1000
    spinner = multiprocessing.get_context("spawn").Process(target=spin, daemon=True)
    if given.spin:
        spinner.start()
        bare = statistics.median(floor(given.calls)) / 1000
    try:
        rows = calls(given.calls)
    finally:
        if given.spin:
            spinner.kill()
    if not rows:
        sys.exit("no call was undisturbed")
    medians = [statistics.median(column) / 1000 for column in zip(*rows, strict=True)]
    total = statistics.median(sum(row) for row in rows) / 1000
    whose = {
        kind: sum(m for m, (_, of) in zip(medians, STAGES, strict=True) if of == kind) for kind in ("ours", "kernel")
    }
    if given.json:
        stages = {name: round(value, 2) for (name, _), value in zip(STAGES, medians, strict=True)}
        print(json.dumps({"stages_us": stages, "total_us": total, "floor_us": bare, "calls": len(rows), **whose}))
        return
    for (name, of), value in zip(STAGES, medians, strict=True):
        print(f"{value:7.1f} µs  {of:6}  {name}")
    print(
        f"{total:7.1f} µs  a call (median of {len(rows)}): {whose['ours']:.1f} ours, {whose['kernel']:.1f} the kernel's"
    )
    print(f"{bare:7.1f} µs  two bare processes over such a socket")


if __name__ == "__main__":
    main()
