"""Time limits and cancels of calls that keep the interpreter of their process."""

from __future__ import annotations

import logging
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from tests import sessions
from tests.faults.busy import endless_match, endless_sum

import ray
from ray.testing import eventually

#: Long, as the machine may be busy; without the mend it would take for ever.
PATIENCE_S = 30.0
LIMIT_S = 0.3


session = sessions.shared(num_cpus=2)
nothing_left = sessions.unchecked()


def begin(path: str) -> None:
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")


@ray.remote
def match(path: str) -> object:
    if not path:
        return None
    begin(path)
    return endless_match()


@ray.remote
def add(path: str) -> int:
    begin(path)
    return endless_sum()


@ray.remote
def pid() -> int:
    return os.getpid()


@ray.remote(num_cpus=0)
class Actor:
    def match(self, path: str) -> object:
        begin(path)
        return endless_match()

    def add(self, path: str) -> int:
        begin(path)
        return endless_sum()

    def pid(self) -> int:
        return os.getpid()


def pids(path: Path) -> list[int]:
    eventually(lambda: path.exists() and path.read_text().endswith("\n"), PATIENCE_S, "it has not begun")
    return list(map(int, path.read_text().split()))


def test_a_call_that_looks_at_signals_ends_in_time_and_its_process_goes_on(tmp_path: Path) -> None:
    actor = Actor.remote()
    before = ray.get(actor.pid.remote())
    for number in range(2):
        with pytest.raises(ray.exceptions.TaskTimeoutError, match=f"timeout_s={LIMIT_S}"):
            ray.get(actor.match.options(timeout_s=LIMIT_S).remote(str(tmp_path / f"a{number}")), timeout=PATIENCE_S)
    assert ray.get(actor.pid.remote(), timeout=PATIENCE_S) == before
    with pytest.raises(ray.exceptions.TaskTimeoutError):
        ray.get(match.options(timeout_s=LIMIT_S).remote(str(tmp_path / "b")), timeout=PATIENCE_S)


def test_a_call_that_does_not_is_told_of_in_time_and_its_process_ended(tmp_path: Path) -> None:
    path = tmp_path / "sum"
    ref = add.options(timeout_s=LIMIT_S).remote(str(path))
    (busy,) = pids(path)
    with pytest.raises(ray.exceptions.TaskTimeoutError):
        ray.get(ref, timeout=PATIENCE_S)
    eventually(lambda: not os.path.exists(f"/proc/{busy}"), PATIENCE_S, "the process goes on")
    assert ray.get([pid.remote() for _ in range(4)], timeout=PATIENCE_S)


def test_an_actor_that_does_not_is_restarted_for_the_others(tmp_path: Path) -> None:
    actor = Actor.options(max_restarts=1).remote()
    before = ray.get(actor.pid.remote())
    late = actor.add.options(timeout_s=LIMIT_S).remote(str(tmp_path / "sum"))
    behind = actor.pid.remote()
    with pytest.raises(ray.exceptions.TaskTimeoutError):
        ray.get(late, timeout=PATIENCE_S)
    assert ray.get(behind, timeout=PATIENCE_S) != before


@pytest.mark.slow
def test_it_is_retried_where_that_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "twice"
    ray.get([match.options(timeout_s=60).remote("") for _ in range(8)])  # what they need is imported, perhaps slowly
    ref = match.options(timeout_s=3 * LIMIT_S, max_retries=1, retry_exceptions=True).remote(str(path))
    with pytest.raises(ray.exceptions.TaskTimeoutError):
        ray.get(ref, timeout=PATIENCE_S)
    assert len(pids(path)) == 2


def test_limits_that_are_kept_cost_nobody_anything() -> None:
    limited = pid.options(timeout_s=LIMIT_S)
    for _ in range(20):
        ray.get([limited.remote() for _ in range(10)])
    time.sleep(2 * LIMIT_S)
    assert len(set(ray.get([limited.remote() for _ in range(10)]))) <= 2


@pytest.mark.parametrize("of_an_actor", [False, True], ids=["task", "actor"])
def test_cancel_of_a_call_that_looks_at_signals(tmp_path: Path, of_an_actor: bool) -> None:
    actor = Actor.remote()
    path = tmp_path / "match"
    ref = actor.match.remote(str(path)) if of_an_actor else match.remote(str(path))
    pids(path)
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref, timeout=PATIENCE_S)
    assert ray.get(actor.pid.remote(), timeout=PATIENCE_S)


def test_cancel_of_one_that_does_not_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "sum"
    ref = add.remote(str(path))
    pids(path)
    with caplog.at_level(logging.WARNING, "ray"):
        ray.cancel(ref)
        ray.cancel(ref)
        end = time.monotonic() + PATIENCE_S
        while not caplog.records:
            assert time.monotonic() < end, "nothing was said"
            ray.wait([ref], timeout=timedelta(seconds=0.01))
        ray.wait([ref], timeout=timedelta(seconds=0.2))
    (record,) = caplog.records
    assert "add was cancelled and still runs" in record.getMessage()
    assert "force=True" in record.getMessage()
    ray.cancel(ref, force=True)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref, timeout=PATIENCE_S)


def test_a_late_signal_does_not_hit_the_next_task(tmp_path: Path) -> None:
    """Many that end at about the time when they are cancelled, or over their time."""

    @ray.remote
    def spin(seconds: float) -> str:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        return "ended"

    refs, others = [], []
    for _ in range(15):
        refs += [spin.options(timeout_s=0.02).remote(0.02), spin.options(timeout_s=0.02).remote(0.07)]
        others += [spin.remote(0.02) for _ in range(2)]
    for ref in refs:
        try:
            assert ray.get(ref, timeout=PATIENCE_S) == "ended"
        except ray.exceptions.TaskTimeoutError:
            pass
    assert set(ray.get(others, timeout=PATIENCE_S)) == {"ended"}
