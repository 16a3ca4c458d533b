"""The rows of the comparison: what each line is called, which way is better, and what it has to reach."""

from __future__ import annotations

import dataclasses
from typing import Literal

GROUPS = ("startup", "tasks", "objects", "actors", "awaits")
"""Programs that run in every round."""

ONCE = {"memory": "", "object_selectors": r"@(100|10000)$|loop", "many": ""}
"""Programs that run in the first round only, and which of their lines."""

DEFAULTS = {"RAY_STORE": "heap", "RAY_TRANSPORT": "unix", "RAY_SELECTOR": "epoll"}
"""The parts of the first contestant, whatever is installed."""

VARIANTS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "plasma": ({"RAY_STORE": "plasma"}, ("startup", "objects", "memory")),
    "shm": ({"RAY_STORE": "shm"}, ("objects",)),
    "zmq": ({"RAY_TRANSPORT": "zmq"}, (*GROUPS, "memory", "many")),
    "epoll": ({"RAY_SELECTOR": "epoll"}, ("object_selectors",)),
    "poll": ({"RAY_SELECTOR": "poll"}, ("object_selectors",)),
}
"""Parts measured beside the defaults: the environment that selects them and the groups they are measured on."""

ZMQ_SHARE = 1 / 3
"""The least share of the unix transport's rate that each line must keep over zmq."""

RATES = ("/s", "GB/s", "s", "ms", "µs")
"""Units of the lines that must keep it; the others are memory and idling."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row. ``judged`` are the variants that have to reach the target; the empty one has the default parts.

    Over zmq every line is judged that is judged at all.
    """

    line: str
    label: str
    better: Literal["lower", "higher"]
    target: float | None = None
    judged: tuple[str, ...] = ("",)
    of: str = ""
    """A line that the value is divided by."""

    def met(self, value: float) -> bool | None:
        """Whether ``value`` reaches the target; None without a target."""
        if self.target is None:
            return None
        return value <= self.target if self.better == "lower" else value >= self.target

    def gain(self, value: float, other: float) -> float:
        """How many times better ``value`` is than ``other``."""
        value, other = max(value, 1e-12), max(other, 1e-12)
        return other / value if self.better == "lower" else value / other


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """A table of our own parts: ``columns`` are (heading, variant)."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]


SHARED = ("plasma", "shm")
DEFAULT_AND_PLASMA = ("", "plasma")
STORES = ("", "plasma", "shm")

LINES = Section(
    (("heap, unix", ""), ("plasma", "plasma"), ("shm", "shm"), ("zmq", "zmq")),
    (
        Row("import_ray", "`import ray`", "lower", 0.15),
        Row("init_first_result", "`ray.init()` to first result", "lower", 0.4, DEFAULT_AND_PLASMA),
        Row("import_to_result", "`import ray` to first result", "lower"),
        Row("task_sync", "one task, synchronous, p50", "lower", 100),
        Row("tasks_pipelined", "tasks, pipelined", "higher", 40_000),
        Row("tasks_nested", "nested tasks", "higher", 30_000),
        Row("get_small", "`get` of a small ready object", "higher", 300_000, STORES),
        Row("put_small", "`put` of a small object", "higher", 200_000, STORES),
        Row("put_1mib", "`put` of 1 MiB", "higher", 5_000, STORES),
        Row("memcpy_100mib", "one-thread memcpy of 100 MiB", "higher", judged=()),
        Row("put_100mib", "`put` of 100 MiB", "higher"),
        Row("put_100mib_of_memcpy", "… as a share of memcpy in the same run", "higher", 90, SHARED),
        Row("get_100mib", "`get` of 100 MiB, zero copy", "higher", 50_000, STORES),
        Row("task_ref_100mib", "task given a ref to 100 MiB", "higher", 8_000, STORES),
        Row("drain_1000", "drain 1,000 refs, one `wait` each", "higher", 25_000),
        Row("drain_10000", "drain 10,000 refs, one `wait` each", "higher", 25_000),
        Row("drain_100000", "drain 100,000 refs, one `wait` each", "higher", 25_000),
        Row("chain_100", "chain of 100 dependent tasks", "higher", 10_000),
        Row("actor_sync", "actor call, synchronous, p50", "lower", 90),
        Row("actor_pipelined", "actor calls, pipelined", "higher", 45_000),
        Row("async_actor_sync", "async-actor call, synchronous, p50", "lower", 120),
        Row("async_actor_pipelined", "async-actor calls, pipelined", "higher", 30_000),
        Row("await_gather_1000", "`await gather` of 1,000 refs", "higher", 25_000),
        Row("await_gather_calls", "`await gather` of 1,000 async-actor calls", "higher"),
        Row("await_10000", "`await gather` of 10,000 refs", "higher"),
        Row("await_10000_lag_p99", "loop lag p99 while 10,000 refs are awaited", "lower", 5),
        Row("await_task", "`await` of one task, p50", "lower"),
        Row("await_async_actor", "`await` of one async-actor call, p50", "lower"),
        Row("async_actor_to_actor", "async actor awaiting 1,000 calls of another", "higher"),
        Row("actors_2x2", "2 actors calling 2 actors", "higher", 40_000),
        Row("actors_born", "actors born and answering", "higher", 150),
        Row("million_tasks", "1,000,000 tasks queued, then run", "lower", 45),
        Row("million_bytes", "… and the driver's memory for each", "lower", 1_500),
        Row("pss_after_lines", "after the lines above, all processes (PSS)", "lower", 200, DEFAULT_AND_PLASMA),
        Row("idle_pss", "idle after `init`, all processes (PSS)", "lower", 120, DEFAULT_AND_PLASMA),
        Row("idle_cpu", "… and their processor time", "lower", 0.5, DEFAULT_AND_PLASMA),
        Row("actor_private", "one more idle actor, private", "lower", 15, DEFAULT_AND_PLASMA),
        Row("shutdown", "`ray.shutdown()`", "lower", 0.2, DEFAULT_AND_PLASMA),
    ),
)

SELECTORS = Section(
    (("epoll", "epoll"), ("poll", "poll")),
    (
        Row("drain@100", "100 refs, taken one at a time: each", "lower", judged=("epoll",)),
        Row("drain@10000", "10,000 refs, taken one at a time: each", "lower", judged=("epoll",)),
        Row("drain@10000", "… times as much as of 100", "lower", 1.5, ("epoll",), of="drain@100"),
        Row("look@100", "`select(0)` over 100 pending refs", "lower", judged=("epoll",)),
        Row("look@10000", "`select(0)` over 10,000 pending refs", "lower", judged=("epoll",)),
        Row("loop_lag_p99", "lag p99 of the loop of the async API, 10,000 refs awaited", "lower", 5, ("epoll",)),
        Row("loop_idle_cpu", "processor time of that loop, waiting", "lower", 0.5, ("epoll",)),
    ),
)

SECTIONS = (LINES, SELECTORS)

REMARKS = (
    "Medians. ✓ and ✗ say whether the target was met. Percentages over zmq: of the rate over unix; a third is asked.",
    "Ray ran at most 100,000 of the 1,000,000 tasks; its time is scaled up.",
)
