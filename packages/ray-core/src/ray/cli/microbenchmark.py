"""``ray microbenchmark``: what a call costs here, in a minute. ``benchmarks/`` compares in depth.

Exit codes: 0 measured; 1 a line failed.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.cli.output import add_format, as_json, as_table
from ray.exceptions import PluginNotInstalledError

Measure = Callable[[float], float]
"""Takes the seconds that it may use and returns the value."""


def _nothing() -> None:
    return None


def _nested(count: int) -> int:
    task = ray.remote(_nothing)
    return len(ray.get([task.remote() for _ in range(count)]))


class _Server:
    def ping(self) -> None:
        return None


class _AsyncServer:
    async def ping(self) -> None:
        return None


def _latency(call: Callable[[], object], seconds: float) -> float:
    """Median microseconds of one call."""
    for _ in range(50):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def _rate(batch: Callable[[], object], items: int, seconds: float) -> float:
    """Median items per second of several batches."""
    batch()
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while not rates or time.perf_counter() < end:
        start = time.perf_counter()
        batch()
        rates.append(items / (time.perf_counter() - start))
    return statistics.median(rates)


def _repeat(call: Callable[[], object], count: int) -> None:
    for _ in range(count):
        call()


def _drain(refs: list[Any]) -> None:
    while refs:
        _, refs = ray.wait(refs)


def _with_actor(actor_class: Any, measure: Callable[[Any], float]) -> float:
    actor: Any = ray.remote(num_cpus=0)(actor_class).remote()
    try:
        return measure(actor)
    finally:
        ray.kill(actor)


def _born(count: int) -> None:
    actors: list[Any] = [ray.remote(num_cpus=0)(_Server).remote() for _ in range(count)]
    ray.get([actor.ping.remote() for actor in actors])
    for actor in actors:
        ray.kill(actor)


def _lines() -> dict[str, tuple[str, Measure]]:
    """{name: (unit, measure)}; made when the runtime is up."""
    task, nested = ray.remote(_nothing), ray.remote(_nested)
    small, payload = ray.put(1), bytes(1 << 20)

    def calls(actor: Any, seconds: float) -> float:
        return _rate(lambda: ray.get([actor.ping.remote() for _ in range(2_000)]), 2_000, seconds)

    def answers(actor: Any, seconds: float) -> float:
        return _latency(lambda: ray.get(actor.ping.remote()), seconds)

    return {
        "one task, synchronous": ("µs", lambda s: _latency(lambda: ray.get(task.remote()), s)),
        "tasks, pipelined": ("/s", lambda s: _rate(lambda: ray.get([task.remote() for _ in range(2_000)]), 2_000, s)),
        "nested tasks": ("/s", lambda s: _rate(lambda: ray.get([nested.remote(250) for _ in range(4)]), 1_004, s)),
        "get of a small object": ("/s", lambda s: _rate(lambda: _repeat(lambda: ray.get(small), 2_000), 2_000, s)),
        "put of a small object": ("/s", lambda s: _rate(lambda: _repeat(lambda: ray.put(1), 2_000), 2_000, s)),
        "put of 1 MiB": ("/s", lambda s: _rate(lambda: _repeat(lambda: ray.put(payload), 100), 100, s)),
        "1,000 refs, one wait each": (
            "/s",
            lambda s: _rate(lambda: _drain([task.remote() for _ in range(1_000)]), 1_000, s),
        ),
        "actor call, synchronous": ("µs", lambda s: _with_actor(_Server, lambda actor: answers(actor, s))),
        "actor calls, pipelined": ("/s", lambda s: _with_actor(_Server, lambda actor: calls(actor, s))),
        "async-actor call, synchronous": ("µs", lambda s: _with_actor(_AsyncServer, lambda actor: answers(actor, s))),
        "async-actor calls, pipelined": ("/s", lambda s: _with_actor(_AsyncServer, lambda actor: calls(actor, s))),
        "actors born and answering": ("/s", lambda s: _rate(lambda: _born(10), 10, s)),
    }


def _measured(name: str, unit: str, measure: Measure, seconds: float) -> dict[str, Any]:
    record: dict[str, Any] = {"name": name, "value": None, "unit": unit, "problem": ""}
    try:
        return record | {"value": measure(seconds)}
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        # Where a worker found that a plugin is missing, its last words say so.
        _, missing, reason = text.rpartition(f"{PluginNotInstalledError.__name__}: ")
        return record | {"problem": f"unavailable: {reason}" if missing else f"failed: {text[:300]}"}


def main(argv: Sequence[str]) -> int:
    """Start a session on this machine, measure each line, print a table (or JSON), shut down."""
    parser = argparse.ArgumentParser(
        prog="ray microbenchmark",
        description="Measure tasks, objects and actors of a new session on this machine.",
        epilog="exit codes: 0 measured, 1 a line failed",
    )
    add_format(parser)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each line (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="REGEX", help="run only the lines whose name matches")
    given = parser.parse_args(argv)
    start = time.perf_counter()
    ray.init(log_to_driver=False)
    try:
        ray.get(ray.remote(_nothing).remote())
        first = time.perf_counter() - start
        records: list[dict[str, Any]] = [{"name": "init to first result", "value": first, "unit": "s", "problem": ""}]
        for name, (unit, measure) in _lines().items():
            if re.search(given.only, name):
                records.append(_measured(name, unit, measure, given.seconds))
    finally:
        ray.shutdown()
    if given.format == "json":
        print(as_json(records))
    else:
        print(as_table([("line", "value", "unit"), *map(_row, records)]))
    return int(any(record["problem"].startswith("failed") for record in records))


def _row(record: dict[str, Any]) -> tuple[str, str, str]:
    if record["value"] is None:
        return record["name"], "-", record["problem"]
    value = record["value"]
    return record["name"], f"{value:,.0f}" if value >= 100 else f"{value:.3g}", record["unit"]


run = main
"""The name by which the ``ray`` command finds it."""
