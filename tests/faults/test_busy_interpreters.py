"""A call that keeps the interpreter of its process holds up no other process that needs nothing of that one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.busy import Hold

import ray

#: Long, as the machine may be busy; without the mend it would take until the test lets go.
PATIENCE_S = 25.0


@pytest.fixture
def hold(tmp_path: Path) -> Hold:
    return Hold(tmp_path)


@ray.remote
def hold_it(hold: Hold) -> int:
    return hold()


@ray.remote
def maybe_hold(hold: Hold | None, log: str = "") -> int:
    """Short, but for one argument."""
    if log:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, b"x")
        os.close(descriptor)
    return hold() if hold is not None else os.getpid()


@ray.remote
def quick(number: int = 0) -> int:
    return number


def warm_up() -> None:
    """Let it be known that these are short."""
    ray.get([quick.remote() for _ in range(100)])
    ray.get([maybe_hold.remote(None) for _ in range(100)])


def test_tasks_do_not_wait_behind_a_function_that_is_not_known(start: Callable[..., object], hold: Hold) -> None:
    start(num_cpus=2)
    warm_up()
    held = hold_it.remote(hold)
    assert ray.get([quick.remote(number) for number in range(50)], timeout=PATIENCE_S) == list(range(50))
    assert ray.wait([held], timeout=0) == ([], [held])
    hold.let_go()
    ray.get(held)


def test_tasks_of_a_short_function_are_taken_back_from_its_one_long_call(
    start: Callable[..., object], hold: Hold, tmp_path: Path
) -> None:
    start(num_cpus=2)
    warm_up()
    log = tmp_path / "ran"
    for round in range(3):
        again = Hold(tmp_path, f"hold-{round}")
        log.write_text("")
        refs = [maybe_hold.remote(again if number == 3 else None, str(log)) for number in range(60)]
        others = refs[:3] + refs[4:]
        # Results that its process had not sent are held up with it, and only those.
        ready, _ = ray.wait(others, num_returns=len(others) - 3, timeout=PATIENCE_S * 1000)
        assert len(ready) >= len(others) - 3
        assert ray.get(refs[4:], timeout=PATIENCE_S)
        again.await_held()
        again.let_go()
        ray.get(refs)
        assert log.read_text() == "x" * 60, "each ran once"


def test_a_worker_that_held_is_used_again(start: Callable[..., object], hold: Hold) -> None:
    start(num_cpus=1)
    warm_up()
    refs = [maybe_hold.remote(hold), *[maybe_hold.remote(None) for _ in range(20)]]
    pid = hold.await_held()
    hold.let_go()
    assert set(ray.get(refs, timeout=PATIENCE_S)) == {pid}


def test_the_children_of_a_task_do_not_wait_either(start: Callable[..., object], hold: Hold) -> None:
    start(num_cpus=3)

    @ray.remote
    def parent(hold: Hold) -> list[int]:
        ray.get([maybe_hold.remote(None) for _ in range(100)])
        held = maybe_hold.remote(hold)
        result = ray.get([quick.remote(number) for number in range(20)], timeout=PATIENCE_S)
        hold.let_go()
        ray.get(held)
        return result

    warm_up()
    assert ray.get(parent.remote(hold), timeout=2 * PATIENCE_S) == list(range(20))


def test_tasks_that_wait_behind_a_busy_one_are_cancelled(
    start: Callable[..., object], hold: Hold, tmp_path: Path
) -> None:
    start(num_cpus=1)
    warm_up()
    log = str(tmp_path / "ran")
    held = maybe_hold.remote(hold)
    waiting = [maybe_hold.remote(None, log) for _ in range(10)]
    hold.await_held()
    ray.cancel(waiting)
    for ref in waiting:
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(ref, timeout=PATIENCE_S)
    hold.let_go()
    ray.get(held)
    assert ray.get(quick.remote(7)) == 7
    assert not os.path.exists(log), "none of them has run"


def test_the_death_of_a_busy_worker_takes_nothing_along_but_its_task(start: Callable[..., object], hold: Hold) -> None:
    start(num_cpus=2)
    warm_up()
    refs = [maybe_hold.options(max_retries=0).remote(hold if number == 0 else None) for number in range(40)]
    pid = hold.await_held()
    ray.get(refs[1:], timeout=PATIENCE_S)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(refs[0], timeout=PATIENCE_S)
    assert ray.get(quick.remote(7), timeout=PATIENCE_S) == 7


def test_kill_by_force_reaches_a_busy_worker(start: Callable[..., object], hold: Hold) -> None:
    start(num_cpus=1)
    warm_up()
    refs = [maybe_hold.remote(hold if number == 0 else None) for number in range(20)]
    hold.await_held()
    ray.cancel(refs[0], force=True)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(refs[0], timeout=PATIENCE_S)
    ray.get(refs[1:], timeout=PATIENCE_S)
