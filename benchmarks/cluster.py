"""What a cluster costs, beside sessions on this machine alone in the same run. Each node is a node manager of its own.

    python benchmarks/cluster.py [--transport routed] [--only REGEX] [--rounds 3] [--nodes 20] [--save]

Sessions take turns: one of this machine alone; where the nodes speak another transport with each other than within, one
that has that transport for everything; then the cluster of two nodes. Its second node offers no processor: plain tasks
stay at the driver's node, and those that ask for "far" run at the other one. Needs a Redis server.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import dataclasses
import datetime
import functools
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import processes
from actors import Server, with_actor
from adapter import ray, remote, versions
from cluster_births import birth_lines
from cluster_nodes import LIMIT_S, Nodes
from cluster_objects import broadcast_lines
from cluster_pulls import pull_lines
from harness import Budget, Line, latencies, measure, rates
from report import MISSED, number, pipe_table
from tasks import PIPELINED, nothing

from ray.builtin.redis_control.plain_link import RedisLink

RESULTS = pathlib.Path(__file__).parent / "results"
MARK = "attach-sample "
FAR: dict[str, Any] = {"num_cpus": 0, "resources": {"far": 1}}
MANY = 100_000
BORROWS = 20
#: An owner gives up what it has not used for 0.1 s.
IDLE_S = 0.3
SETTLE_S = 5.0
WATCH_S = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: a line, beside the line ``of``. ``target`` is of its value, ``ratio`` of both."""

    line: str
    label: str
    better: Literal["lower", "higher"]
    target: float | None = None
    of: str = ""
    ratio: float | None = None


ROWS = (
    Row("head_start", "`ray start --head` with its own Redis", "lower", 1.2),
    Row("join", "`ray start --address`", "lower", 0.8),
    Row("join_seen", "after that, until every node knows the new one", "lower", 100),
    Row("attach", "`ray.init(redis_address=...)` to first result", "lower", 0.3),
    Row("attach_far", "the same on a machine without a node", "lower", 0.5),
    Row("far_task_sync", "one task on another node, synchronous, p50", "lower", 350, "between_task_sync", 1.3),
    Row("far_actor_sync", "one call of an actor on another node, p50", "lower", 350, "between_actor_sync", 1.3),
    Row("far_pipelined", "tasks on one other node, pipelined", "higher", 25_000, "between_pipelined", 0.7),
    Row("here_pipelined", "tasks on the driver's node, pipelined", "higher", None, "alone_pipelined", 0.95),
    Row("here_task_sync", "one task on the driver's node, synchronous, p50", "lower", None, "alone_task_sync"),
    Row("here_actor_sync", "one call of an actor on the driver's node, p50", "lower", None, "alone_actor_sync"),
    Row("named_lookup", "`ray.get_actor`, p50", "lower", 2),
    Row("named_births", "births of 100 named actors at once on two other nodes", "higher", 60),
    Row("named_birth_cpu", "processor time of one of these, in all processes", "lower"),
    Row("far_births", "the same of actors without a name", "higher"),
    Row("far_birth_cpu", "processor time of one of these", "lower"),
    Row("here_births", "the same on the driver's node", "higher"),
    Row("here_birth_cpu", "processor time of one of these", "lower"),
    Row("borrow_idle", "demand to first push, an idle worker of another node, p50", "lower", 3),
    Row("borrow_forked", "demand to first push, a worker that is to be forked there, p50", "lower", 80),
    Row("redis_commands", "Redis commands while 100,000 tasks run", "lower", 200),
    Row(
        "pull_clear",
        "1 GiB from another node in the clear, beside a plain socket",
        "higher",
        None,
        "socket",
        0.8,
    ),
    Row("pull_clear_cpu", "processor time of that, both object managers", "lower", 0.36),
    Row("pull_sealed", "the same with AES-256-GCM, beside a plain socket", "higher", None, "socket", 0.4),
    Row("pull_sealed_cpu", "processor time of that", "lower", 0.55),
    Row("pull_near", "the same from store to store of one machine, beside a plain socket", "higher", None, "socket"),
    Row("pull_near_cpu", "processor time of that", "lower"),
    Row("pull_many", "1,000 values of 1 MiB, beside one of 1 GiB", "higher", None, "pull_clear", 0.6),
    Row("pull_100k", "one value of 100 KiB, p50", "lower", 0.8),
    Row("pull_1m", "one value of 1 MiB, p50", "lower", 2.5),
    Row("get_pulled", "`get` of a value that has come", "higher", 50_000),
    Row("broadcast", "one value of 256 MiB to 8 nodes", "lower", None, "broadcast_single", 1.3),
    Row("broadcast_sent", "of that, what the source sends, in values", "lower", 2.05),
    Row("broadcast_received", "of that, what a node receives at most, in values", "lower", 1.02),
    Row("nodes_up", "all nodes of a large cluster, started at once", "lower", 20),
    Row("node_pss", "memory (PSS) of one of these", "lower", 50),
    Row("nodes_idle", "all of these, idle", "lower", 4),
)


@remote
def begun() -> float:
    """When it has begun, by the clock of all processes of a machine."""
    return time.perf_counter()


# --- lines ------------------------------------------------------------------------------------------------------------


def start_lines(nodes: Nodes, transport: str) -> list[Line]:
    """Of a cluster that comes and goes: its head, a second node, and programs that join it."""

    @functools.cache
    def sample() -> dict[str, float]:
        try:
            found = {"head_start": nodes.head("--num-cpus", "1")}
            found["join"] = nodes.join("--num-cpus", "1")
            start = time.perf_counter()
            nodes.await_all(2)
            found["join_seen"] = 1000 * (time.perf_counter() - start)
            found["attach"] = attached(nodes.address(), nodes.environ)
            if transport == "routed":  # others do not reach nodes of other machines
                found["attach_far"] = attached(nodes.address(), nodes.elsewhere())
            return found
        finally:
            nodes.stop()

    def line(name: str, unit: str) -> Line:
        return Line(name, unit, lambda budget: [sample()[name]])

    lines = [line("head_start", "s"), line("join", "s"), line("join_seen", "ms"), line("attach", "s")]
    return [*lines, line("attach_far", "s")] if transport == "routed" else lines


def attached(address: str, environ: Mapping[str, str]) -> float:
    """Seconds from ``ray.init`` to the first result, in an interpreter of its own that has imported ray."""
    command = [sys.executable, __file__, "--child", address]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    for text in done.stdout.splitlines():
        if text.startswith(MARK):
            return float(text.removeprefix(MARK))
    raise RuntimeError(f"the interpreter ended with {done.returncode}: {done.stderr[-200:]}")


def child(address: str) -> None:
    start = time.perf_counter()
    ray.init(redis_address=address, log_to_driver=False)
    ray.get(nothing.remote())
    print(MARK + str(time.perf_counter() - start))
    ray.shutdown()


def call_lines(name: str, options: Mapping[str, Any]) -> list[Line]:
    """Tasks and calls where ``options`` have them run."""
    task, server = nothing.options(**options), Server.options(**{"num_cpus": 0, **options})

    def actor(budget: Budget) -> list[float]:
        return with_actor(server, lambda actor: latencies(lambda: ray.get(actor.ping.remote()), budget))

    def pipelined(budget: Budget) -> list[float]:
        return rates(lambda: ray.get([task.remote() for _ in range(PIPELINED)]), PIPELINED, budget)

    return [
        Line(f"{name}_task_sync", "µs", lambda budget: latencies(lambda: ray.get(task.remote()), budget)),
        Line(f"{name}_actor_sync", "µs", actor),
        Line(f"{name}_pipelined", "/s", pipelined),
    ]


def named_lookup(budget: Budget) -> list[float]:
    actor = Server.options(name="looked-up").remote()
    try:
        ray.get(actor.ping.remote())
        return [each / 1000 for each in latencies(lambda: ray.get_actor("looked-up"), budget)]
    finally:
        ray.kill(actor)


def borrow_idle(budget: Budget) -> list[float]:
    task = begun.options(**FAR)
    ray.get(task.remote())
    samples = []
    for _ in range(BORROWS):
        time.sleep(IDLE_S)
        start = time.perf_counter()
        samples.append(1000 * (ray.get(task.remote()) - start))
    return samples


def borrow_forked(nodes: Nodes) -> Callable[[Budget], list[float]]:
    """A worker belongs to one job: the first task of each finds none."""

    def line(budget: Budget) -> list[float]:
        samples = []
        for _ in range(BORROWS // 2):
            with joined(nodes):
                ray.get(begun.remote())  # what the function is has been said
                start = time.perf_counter()
                samples.append(1000 * (ray.get(begun.options(**FAR).remote()) - start))
        return samples

    return line


def redis_commands(nodes: Nodes) -> Callable[[Budget], list[float]]:
    def line(budget: Budget) -> list[float]:
        with contextlib.closing(nodes.control()) as control:
            before = commands(control)
            for _ in range(MANY // PIPELINED // 2):
                for task in (nothing, nothing.options(**FAR)):
                    ray.get([task.remote() for _ in range(PIPELINED)])
            return [commands(control) - before]

    return line


def commands(control: RedisLink) -> float:
    """What the server has done so far, without what this program has asked."""
    found = control.call("INFO", "commandstats")
    assert isinstance(found, bytes)
    calls = dict(re.findall(r"^cmdstat_(\S+?):calls=(\d+)", found.decode(), re.MULTILINE))
    return sum(int(count) for name, count in calls.items() if name != "info")


def many_lines(nodes: Nodes, count: int) -> list[Line]:
    """Of a cluster of so many nodes."""

    def up(budget: Budget) -> list[float]:
        start = time.perf_counter()
        nodes.head("--num-cpus", "1")
        joins = [nodes.begin_join("--num-cpus", "1") for _ in range(count - 1)]
        for join in joins:
            nodes.ended(join)
        nodes.await_all(count)
        return [time.perf_counter() - start]

    def memory(budget: Budget) -> list[float]:
        time.sleep(SETTLE_S)
        of_nodes = [pid for pid, name in nodes.pids().items() if name not in ("ray::keeper", "redis-server")]
        return [processes.pss(of_nodes) / count / 1e6]

    def idle(budget: Budget) -> list[float]:
        pids = list(nodes.pids())
        before, start = processes.cpu_seconds(pids), time.perf_counter()
        time.sleep(WATCH_S)
        return [100 * (processes.cpu_seconds(pids) - before) / (time.perf_counter() - start)]

    return [Line("nodes_up", "s", up), Line("node_pss", "MB", memory), Line("nodes_idle", "% of a core", idle)]


# --- sessions ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def session(**options: Any) -> Iterator[None]:
    ray.init(log_to_driver=False, **options)
    try:
        yield
    finally:
        ray.shutdown()


def joined(nodes: Nodes) -> contextlib.AbstractContextManager[None]:
    return session(redis_address=nodes.address())


@contextlib.contextmanager
def two_nodes(nodes: Nodes) -> Iterator[None]:
    try:
        nodes.head("--num-cpus", "2")
        nodes.join("--num-cpus", "0", "--resources", "far=2")
        nodes.await_all(2)
        yield
    finally:
        nodes.stop()


class Run:
    """What was measured so far: {line: {unit, values of the rounds, problem}}."""

    def __init__(self, wanted: set[str], budget: Budget) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self._wanted = wanted
        self._budget = budget

    def wants(self, lines: Sequence[Line]) -> list[Line]:
        return [line for line in lines if line.name in self._wanted]

    def take(self, lines: Sequence[Line]) -> None:
        for line in self.wants(lines):
            record = measure(line, self._budget)
            kept = self.records.setdefault(line.name, {"unit": line.unit, "rounds": [], "problem": ""})
            if record["value"] is None:
                kept["problem"] = record.get("failed") or f"unavailable: {record['unavailable']}"
            else:
                kept["rounds"].append(record["value"])
            print(json.dumps({name: record[name] for name in ("name", "value", "unit")}), file=sys.stderr, flush=True)


def measured(run: Run, nodes: Nodes, transport: str, rounds: int, count: int) -> None:
    """All lines that are wanted."""
    between = {"transport": "zmq", "options": {"transport": {"scheme": "tcp"}}}
    alone = [("alone", {"transport": "unix"})] + [("between", between)] * (transport == "routed")
    for _ in range(rounds):
        run.take(start_lines(nodes, transport))
        for name, options in alone:
            lines = call_lines(name, {})
            if run.wants(lines):
                with session(num_cpus=2, **options):
                    run.take(lines)
        forked = [Line("borrow_forked", "ms", borrow_forked(nodes))]
        lines = [
            *call_lines("here", {}),
            *call_lines("far", FAR),
            Line("named_lookup", "ms", named_lookup),
            Line("borrow_idle", "ms", borrow_idle),
            Line("redis_commands", "", redis_commands(nodes)),
        ]
        run.take(pull_lines(nodes))
        run.take(broadcast_lines(nodes))
        run.take(birth_lines(nodes))
        if run.wants([*forked, *lines]):
            with two_nodes(nodes):
                run.take(forked)
                with joined(nodes):
                    run.take(lines)
    try:
        run.take(many_lines(nodes, count))
    finally:
        nodes.stop()


# --- the table --------------------------------------------------------------------------------------------------------


def table(records: Mapping[str, Mapping[str, Any]], same: str = "") -> list[list[str]]:
    """Head and a row for each line that was run. ``same``: the session that stands for "between", if none does."""
    rows = [["line", "unit", "value", "target", "beside", "ratio", "target", "met"]]
    for row in ROWS:
        record = records.get(row.line)
        if record is None:
            continue
        other = records.get(row.of.replace("between", same or "between"), {})
        value, beside = median(record), median(other)
        ratio = None
        if value is not None and beside is not None:
            ratio = statistics.median(a / b for a, b in zip(record["rounds"], other["rounds"], strict=False))
        verdicts = [
            got <= wanted if row.better == "lower" else got >= wanted
            for got, wanted in ((value, row.target), (ratio, row.ratio))
            if got is not None and wanted is not None
        ]
        sign = "≤" if row.better == "lower" else "≥"
        rows.append([
            row.label,
            record["unit"],
            record["problem"] if value is None else number(value),
            "" if row.target is None else f"{sign} {row.target:,g}",
            "" if beside is None else number(beside),
            "" if ratio is None else f"{ratio:.2f}",
            "" if row.ratio is None else f"{sign} {row.ratio:g}",
            MISSED if value is None or not all(verdicts) else "yes" if verdicts else "",
        ])  # fmt: skip
    return rows


def median(record: Mapping[str, Any]) -> float | None:
    return statistics.median(record["rounds"]) if record.get("rounds") else None


def today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def notes(given: argparse.Namespace, load: float) -> list[str]:
    """When, where and how it was measured."""
    return [
        f"{today()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, load at the start {load:.1f}",
        f"`python benchmarks/cluster.py {' '.join(sys.argv[1:])}`",
        ", ".join(f"{part} {version}" for part, version in versions().items()),
        f"transport {given.transport}: what goes between nodes is compared with one session of this machine "
        + ("whose transport is zmq over TCP" if given.transport == "routed" else "over the same transport"),
        f"medians of {given.rounds} rounds; ratios are medians of those of the rounds",
        f"the large cluster: {given.nodes} nodes; its memory is without Redis and the keeper",
    ]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transport", choices=("unix", "routed"), default="unix", help="default %(default)s")
    parser.add_argument("--only", default="", metavar="REGEX", help="only the lines whose name matches")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--nodes", type=int, default=20, help="of the large cluster (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=Budget.seconds, help="time per line (default %(default)s)")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}/DATE-cluster-TRANSPORT.md")
    parser.add_argument("--child", metavar="ADDRESS", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    given = parse()
    if given.child:
        child(given.child)
        return 0
    if not (shutil.which("redis-server") or shutil.which("valkey-server")):
        sys.exit("A cluster needs redis-server or valkey-server on PATH.")
    rows = [row for row in ROWS if re.search(given.only, row.line)]
    same = "alone" if given.transport == "unix" else "between"
    wanted = {name.replace("between", same) for row in rows for name in (row.line, row.of) if name}
    run = Run(wanted, Budget(seconds=given.seconds, limit=3 * LIMIT_S))
    load = os.getloadavg()[0]
    # As in an installed package. Where PYTHONDONTWRITEBYTECODE is set, each process would compile what it imports.
    compileall.compile_dir(pathlib.Path(ray.__file__).parent, quiet=2)
    with tempfile.TemporaryDirectory(prefix="rb", dir="/tmp") as folder:  # short: it holds sockets
        os.environ |= {"XDG_RUNTIME_DIR": folder, "RAY_HOME": os.path.join(folder, "home")}
        measured(run, Nodes(folder, given.transport), given.transport, given.rounds, given.nodes)
    rows_of_table = table(run.records, same)
    text = "\n".join([pipe_table(rows_of_table), *(f"- {note}" for note in notes(given, load))]) + "\n"
    print(text, end="")
    if given.save:
        (RESULTS / f"{today()}-cluster-{given.transport}.md").write_text(text)
    return int(any(record["problem"] for record in run.records.values()))


if __name__ == "__main__":
    sys.exit(main())
