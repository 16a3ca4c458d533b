"""Threads that stay for the next piece of work."""

from __future__ import annotations

import queue
import threading

import pytest

from ray.runtime.object_manager.standing import StandingThreads
from ray.threads import UnawaitedThread

LIMIT_S = 10.0


@pytest.fixture
def threads() -> StandingThreads:
    return StandingThreads()


def test_each_piece_of_work_has_a_thread_at_once(threads: StandingThreads) -> None:
    meeting = threading.Barrier(9)
    for _ in range(8):
        threads.begin(lambda: meeting.wait(LIMIT_S) and None)
    meeting.wait(LIMIT_S)  # none of them has waited for another one
    threads.close()


def test_no_thread_is_started_where_one_is_idle(threads: StandingThreads) -> None:
    ran: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    found = set()
    for _ in range(100):
        threads.begin(lambda: ran.put(threading.current_thread()))
        found.add(ran.get(timeout=LIMIT_S))
    assert len(found) <= 10, "one more is started only while the one before is still on its way back"
    threads.close()


def test_idle_ones_end_with_it(threads: StandingThreads) -> None:
    ran: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    threads.begin(lambda: ran.put(threading.current_thread()))
    thread = ran.get(timeout=LIMIT_S)
    while thread.is_alive():
        threads.close()
        thread.join(0.01)


def test_one_that_cannot_be_started_takes_no_work(threads: StandingThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: object) -> None:
        raise RuntimeError("can't start new thread")

    ran: queue.SimpleQueue[str] = queue.SimpleQueue()
    with monkeypatch.context() as full:
        full.setattr(UnawaitedThread, "start", start)
        with pytest.raises(RuntimeError, match="new thread"):
            threads.begin(lambda: ran.put("refused"))
    threads.begin(lambda: ran.put("taken"))
    assert ran.get(timeout=LIMIT_S) == "taken"
    assert ran.empty()
    threads.close()
