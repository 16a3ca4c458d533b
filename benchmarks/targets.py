"""The rows of the comparison: what each line is called, which way is better, and what it has to reach."""

from __future__ import annotations

import dataclasses
from typing import Literal

GROUPS = ("startup", "tasks", "objects", "actors", "awaits", "memory")
"""Programs that every contestant runs; ``million`` is optional, ``peers`` needs no ``ray``."""

VARIANTS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "plasma": ({"RAY_STORE": "plasma"}, ("objects",)),
    "zmq": ({"RAY_TRANSPORT": "zmq"}, ("tasks", "objects", "actors")),
}
"""Plugins measured beside the default parts: the environment that selects them and the groups they are measured on."""

ZMQ_SHARE = 1 / 3
"""The least share of the unix transport's rate that each line must keep over zmq."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row. ``variant`` names the plugin that the row is about; rows without one are about the default parts."""

    line: str
    label: str
    better: Literal["lower", "higher"]
    target: float | None = None
    variant: str = ""

    def met(self, value: float) -> bool | None:
        """Whether ``value`` reaches the target; None without a target."""
        if self.target is None:
            return None
        return value <= self.target if self.better == "lower" else value >= self.target

    def gain(self, value: float, other: float) -> float:
        """How many times better ``value`` is than ``other``."""
        value, other = max(value, 1e-12), max(other, 1e-12)
        return other / value if self.better == "lower" else value / other


ROWS = (
    Row("import_ray", "`import ray`", "lower", 0.15),
    Row("init_first_result", "`ray.init()` to first result", "lower", 0.4),
    Row("import_to_result", "`import ray` to first result", "lower"),
    Row("task_sync", "one task, synchronous, p50", "lower", 100),
    Row("tasks_pipelined", "tasks, pipelined", "higher", 40_000),
    Row("tasks_nested", "nested tasks", "higher", 30_000),
    Row("get_small", "`get` of a small ready object", "higher", 300_000),
    Row("put_small", "`put` of a small object", "higher", 200_000),
    Row("put_1mib", "`put` of 1 MiB", "higher", 5_000),
    Row("put_1mib", "`put` of 1 MiB (plasma)", "higher", 5_000, "plasma"),
    Row("memcpy_100mib", "one-thread memcpy of 100 MiB", "higher"),
    Row("put_100mib", "`put` of 100 MiB", "higher"),
    Row("put_100mib_of_memcpy", "… as a share of memcpy in the same run", "higher", 90),
    Row("put_100mib", "`put` of 100 MiB (plasma)", "higher", None, "plasma"),
    Row("put_100mib_of_memcpy", "… as a share of memcpy in the same run (plasma)", "higher", 90, "plasma"),
    Row("get_100mib", "`get` of 100 MiB, zero copy", "higher", 50_000),
    Row("get_100mib", "`get` of 100 MiB, zero copy (plasma)", "higher", 50_000, "plasma"),
    Row("task_ref_100mib", "task given a ref to 100 MiB", "higher", 8_000),
    Row("task_ref_100mib", "task given a ref to 100 MiB (plasma)", "higher", 8_000, "plasma"),
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
    Row("pss_after_lines", "after the lines above, all processes (PSS)", "lower", 200),
    Row("idle_pss", "idle after `init`, all processes (PSS)", "lower", 120),
    Row("idle_cpu", "… and their processor time", "lower", 0.5),
    Row("actor_private", "one more idle actor, private", "lower", 15),
    Row("shutdown", "`ray.shutdown()`", "lower", 0.2),
)
