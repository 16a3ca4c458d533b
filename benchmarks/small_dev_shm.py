"""What ``put`` costs where /dev/shm is small, has no bytes at all, or is being filled by another process.

    python benchmarks/small_dev_shm.py [--rounds 40]

Four sessions run at a time for each store, each in a mount namespace of its own with another /dev/shm, and are measured
in turn, a few puts each, so that what disturbs the machine disturbs all of them. Mounting takes root, or a system that
lets users have namespaces of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NoReturn

SIZES = {"1 MiB": (1 << 20, 200), "100 MiB": (100 << 20, 4)}  # (bytes, puts in a row)
STORES = ("plasma", "shm")
FILLED = "being filled"
#: {name: how to get such a /dev/shm}
STATES = {
    "as it is": "true",
    "64 MiB": "mount -t tmpfs -o size=64m tmpfs /dev/shm",
    "no bytes": "mount -t tmpfs -o ro,size=4k tmpfs /dev/shm",
    FILLED: "mount -t tmpfs -o size=64m tmpfs /dev/shm",
}
NAMESPACES = (["unshare", "-m"], ["unshare", "-r", "-m"])
_FULL = "/dev/shm/full"
_MIB = 1 << 20


def fill() -> NoReturn:
    """Fill /dev/shm within a second or two, empty it a while later, and so on, until killed.

    Slowly enough to leave processors and memory to others.
    """
    while True:
        with open(_FULL, "wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while file.write(bytes(1 << 16)):
                    time.sleep(0.001)
            time.sleep(0.1)


@contextlib.contextmanager
def filler(state: str) -> Iterator[int]:
    """A stopped process that fills /dev/shm while it is let run, or 0 in other states."""
    if state != FILLED:
        yield 0
        return
    with subprocess.Popen([sys.executable, __file__, "--fill"]) as process:
        try:
            while not os.path.exists(_FULL):
                time.sleep(0.001)
            process.send_signal(signal.SIGSTOP)
            yield process.pid
        finally:
            process.kill()


def serve(store: str, state: str) -> None:
    """Be one of the sessions: for each line ``bytes puts`` tell the seconds of each put, and the free bytes after."""
    import numpy as np

    import ray

    with filler(state) as pid:
        ray.init(num_cpus=1, store=store, log_to_driver=False, object_store_memory=2 << 30)
        arrays = {nbytes: np.ones(nbytes, np.uint8) for nbytes, _ in SIZES.values()}
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            nbytes, puts = map(int, line.split())
            array = arrays[nbytes]
            if pid:
                os.kill(pid, signal.SIGCONT)
            times = []
            for _ in range(puts):
                start = time.perf_counter()
                ray.put(array)
                times.append(time.perf_counter() - start)
            if pid:
                os.kill(pid, signal.SIGSTOP)
            room = os.statvfs("/dev/shm")
            print(json.dumps([times, room.f_bfree * room.f_frsize]), flush=True)
        ray.shutdown()


class Session:
    """A session in a process and a mount namespace of its own."""

    def __init__(self, namespace: list[str], store: str, state: str) -> None:
        commands = f'mount --make-rprivate / && {STATES[state]} && exec "$0" "$@"'
        program = [sys.executable, __file__, "--serve", store, state]
        self._process = subprocess.Popen(
            [*namespace, "sh", "-c", commands, *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        #: Bytes of its /dev/shm that were free, each time that it was looked at.
        self.free: list[int] = []

    def _answer(self) -> object:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a session has ended with {self._process.wait()}")
        return json.loads(line)

    def await_start(self) -> None:
        assert self._answer() == "ready"

    def puts(self, nbytes: int, count: int) -> list[float]:
        """Seconds of each of so many puts."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{nbytes} {count}\n")
        self._process.stdin.flush()
        answer = self._answer()
        assert isinstance(answer, list)
        times, free = answer
        self.free.append(free)
        return [float(seconds) for seconds in times]

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)


def working_namespace() -> list[str]:
    """How to get a mount namespace here."""
    problems = []
    for namespace in NAMESPACES:
        try:
            command = [*namespace, "sh", "-c", f"mount --make-rprivate / && {STATES['no bytes']}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:  # there is no such command
            raise SystemExit(f"this needs mount namespaces, by the command unshare of util-linux: {error}") from None
        if not done.returncode:
            return namespace
        problems.append(f"{' '.join(namespace)}: {done.stderr.strip()}")
    raise SystemExit(f"this needs mount namespaces, which are not to be had here: {'; '.join(problems)}")


def measure(sessions: dict[str, Session], nbytes: int, count: int, rounds: int) -> dict[str, list[float]]:
    """Median seconds of a put in each round, for each state; the first round, which is not counted, warms up."""
    medians: dict[str, list[float]] = {state: [] for state in sessions}
    names = list(sessions)
    for number in range(rounds + 1):
        first = number % len(names)
        for state in names[first:] + names[:first]:
            seconds = statistics.median(sessions[state].puts(nbytes, count))
            if number:
                medians[state].append(seconds)
    return medians


def row(medians: dict[str, list[float]]) -> list[str]:
    """The median of each state, with its speed beside the normal one: the median of the ratios of the rounds."""
    usual, *others = medians.values()
    cells = [f"{statistics.median(usual) * 1e6:,.0f} µs"]
    for times in others:
        speed = statistics.median(normal / seconds for normal, seconds in zip(usual, times, strict=True))
        cells.append(f"{statistics.median(times) * 1e6:,.0f} µs ({speed:.0%})")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="how often each session has its turn (default 40)")
    parser.add_argument("--serve", nargs=2, metavar=("STORE", "STATE"), help=argparse.SUPPRESS)
    parser.add_argument("--fill", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        fill()
    if options.serve:
        serve(*options.serve)
        return
    namespace = working_namespace()
    print(f"| store | size | {' | '.join(STATES)} |")
    print("|---" * (2 + len(STATES)) + "|")
    free: dict[str, list[int]] = {state: [] for state in STATES}
    for store in STORES:
        with contextlib.ExitStack() as stack:
            sessions = {state: Session(namespace, store, state) for state in STATES}
            for session in sessions.values():
                stack.callback(session.close)
            for session in sessions.values():
                session.await_start()
            for size, (nbytes, count) in SIZES.items():
                cells = row(measure(sessions, nbytes, count, options.rounds))
                print(f"| {store} | {size} | {' | '.join(cells)} |", flush=True)
            for state, session in sessions.items():
                free[state] += session.free
    for state, seen in free.items():
        print(f"/dev/shm {state}: {min(seen) // _MIB:,} to {max(seen) // _MIB:,} MiB were free", file=sys.stderr)


if __name__ == "__main__":
    main()
