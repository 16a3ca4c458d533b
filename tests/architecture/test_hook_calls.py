"""Hooks build things; they do not run things: none is called while tasks, objects and actor calls are under way."""

import os
from collections.abc import Iterator
from typing import Any

import pluggy
import pytest

import ray


class Watch:
    """Records the names of the hooks that are called in this process while it is installed."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.original = pluggy.HookCaller.__call__

    def install(self) -> "Watch":
        watch = self

        def recording(caller: pluggy.HookCaller, **arguments: Any) -> Any:
            watch.calls.append(caller.name)
            return watch.original(caller, **arguments)

        pluggy.HookCaller.__call__ = recording  # type: ignore[method-assign]
        return self

    def remove(self) -> None:
        pluggy.HookCaller.__call__ = self.original  # type: ignore[method-assign]


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Installed before ``ray.init``; the session ends with the test."""
    watch = Watch().install()
    try:
        ray.init(num_cpus=1, log_to_driver=False)
        yield watch
    finally:
        ray.shutdown()
        watch.remove()


@ray.remote
def start_watching() -> int:
    ray._watch = Watch().install()  # type: ignore[attr-defined]
    return os.getpid()


@ray.remote
def seen() -> tuple[int, list[str]]:
    return os.getpid(), ray._watch.calls  # type: ignore[attr-defined]


@ray.remote
def identity(x: Any) -> Any:
    return x


@ray.remote
class Counter:
    def __init__(self) -> None:
        self.n = 0
        self.watch = Watch()

    def start_watching(self) -> None:
        self.watch.install()

    def add(self, k: int) -> int:
        self.n += k
        return self.n

    def seen(self) -> list[str]:
        return self.watch.calls


def test_driver_calls_no_hook_while_tasks_run(watch: Watch) -> None:
    assert "ray_open_transport" in watch.calls, "the watch sees hooks"
    counter = Counter.remote()
    assert ray.get(counter.add.remote(1)) == 1
    watch.calls.clear()

    assert ray.get([identity.remote(i) for i in range(100)]) == list(range(100))
    assert ray.get([counter.add.remote(1) for _ in range(100)])[-1] == 101
    refs = [ray.put(bytes(1000)) for _ in range(100)]
    ready, rest = ray.wait(refs, num_returns=100)
    assert (len(ready), rest) == (100, [])
    assert len(ray.get(identity.remote(ray.put(bytes(1_000_000))))) == 1_000_000
    assert watch.calls == []


def test_workers_call_no_hook_while_tasks_run(watch: Watch) -> None:
    pid = ray.get(start_watching.remote())
    assert ray.get([identity.remote(i) for i in range(100)]) == list(range(100))
    assert ray.get(seen.remote()) == (pid, [])


def test_actors_call_no_hook_while_calls_run(watch: Watch) -> None:
    counter = Counter.remote()
    ray.get(counter.start_watching.remote())
    assert ray.get([counter.add.remote(1) for _ in range(100)])[-1] == 100
    assert ray.get(counter.seen.remote()) == []
