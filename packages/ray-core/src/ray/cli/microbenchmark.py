"""``ray microbenchmark``: what a call costs here, in a minute. ``benchmarks/`` compares in depth."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable
from typing import Any

import click

import ray
from ray.cli import exits
from ray.cli.commands import command, with_format
from ray.cli.output import as_json, as_table
from ray.clock import perf_counter
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
    end = perf_counter() + seconds
    while not times or perf_counter() < end:
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return statistics.median(times) * 1e6


def _rate(batch: Callable[[], object], items: int, seconds: float) -> float:
    """Median items per second of several batches."""
    batch()
    rates: list[float] = []
    end = perf_counter() + seconds
    while not rates or perf_counter() < end:
        start = perf_counter()
        batch()
        rates.append(items / (perf_counter() - start))
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


def _tasks(count: int) -> list[Any]:
    task = ray.remote(_nothing)
    return [task.remote() for _ in range(count)]


def _one_by_one(seconds: float) -> float:
    task = ray.remote(_nothing)
    return _latency(lambda: ray.get(task.remote()), seconds)


def _nesting(seconds: float) -> float:
    nested = ray.remote(_nested)
    return _rate(lambda: ray.get([nested.remote(250) for _ in range(4)]), 1_004, seconds)


def _gets(seconds: float) -> float:
    small = ray.put(1)
    return _rate(lambda: _repeat(lambda: ray.get(small), 2_000), 2_000, seconds)


def _puts(value: object, count: int, seconds: float) -> float:
    return _rate(lambda: _repeat(lambda: ray.put(value), count), count, seconds)


def _calls(actor: Any, seconds: float) -> float:
    return _rate(lambda: ray.get([actor.ping.remote() for _ in range(2_000)]), 2_000, seconds)


def _answers(actor: Any, seconds: float) -> float:
    return _latency(lambda: ray.get(actor.ping.remote()), seconds)


FIRST = "init to first result"
#: {name: (unit, measure)}, after the first.
LINES: dict[str, tuple[str, Measure]] = {
    "one task, synchronous": ("µs", _one_by_one),
    "tasks, pipelined": ("/s", lambda s: _rate(lambda: ray.get(_tasks(2_000)), 2_000, s)),
    "nested tasks": ("/s", _nesting),
    "get of a small object": ("/s", _gets),
    "put of a small object": ("/s", lambda s: _puts(1, 2_000, s)),
    "put of 1 MiB": ("/s", lambda s: _puts(bytes(1 << 20), 100, s)),
    "1,000 refs, one wait each": ("/s", lambda s: _rate(lambda: _drain(_tasks(1_000)), 1_000, s)),
    "actor call, synchronous": ("µs", lambda s: _with_actor(_Server, lambda actor: _answers(actor, s))),
    "actor calls, pipelined": ("/s", lambda s: _with_actor(_Server, lambda actor: _calls(actor, s))),
    "async-actor call, synchronous": ("µs", lambda s: _with_actor(_AsyncServer, lambda actor: _answers(actor, s))),
    "async-actor calls, pipelined": ("/s", lambda s: _with_actor(_AsyncServer, lambda actor: _calls(actor, s))),
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


def _seconds(_context: click.Context, _option: click.Parameter, value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise click.BadParameter(f"{value:g} is no time to measure for; give a number above 0.")
    return value


def _chosen(_context: click.Context, _option: click.Parameter, pattern: str) -> list[str]:
    """The lines that a pattern matches."""
    names = [FIRST, *LINES]
    listed = "".join(f"\n  {name}" for name in names)
    try:
        found = [name for name in names if re.search(pattern, name)]
    except re.error as error:
        raise click.BadParameter(f"{pattern!r} is no regular expression: {error}. The lines are:{listed}") from error
    if not found:
        raise click.BadParameter(f"no line matches {pattern!r}. The lines are:{listed}")
    return found


@command("microbenchmark")
@with_format
@click.option("--seconds", type=float, default=1.0, show_default=True, callback=_seconds, help="Time for each line.")
@click.option("--only", "chosen", default="", metavar="REGEX", callback=_chosen, help="Only lines whose name matches.")
def microbenchmark(form: str, seconds: float, chosen: list[str]) -> int:
    """Measure tasks, objects and actors of a new session on this machine."""
    start = perf_counter()
    ray.init(log_to_driver=False)
    try:
        ray.get(ray.remote(_nothing).remote())
        first = perf_counter() - start
        records: list[dict[str, Any]] = [{"name": FIRST, "value": first, "unit": "s", "problem": ""}]
        records += [_measured(name, *LINES[name], seconds) for name in chosen if name != FIRST]
    finally:
        ray.shutdown()
    if form == "json":
        print(as_json(records))
    else:
        print(as_table([("line", "value", "unit"), *map(_row, records)]))
    failed = any(record["problem"].startswith("failed") for record in records)
    return exits.FAILED if failed else exits.DONE


def _row(record: dict[str, Any]) -> tuple[str, str, str]:
    if record["value"] is None:
        return record["name"], "-", record["problem"]
    value = record["value"]
    return record["name"], f"{value:,.0f}" if value >= 100 else f"{value:.3g}", record["unit"]
