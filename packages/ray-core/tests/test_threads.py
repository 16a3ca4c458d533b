"""Threads that may be started where a lock is held."""

from __future__ import annotations

import threading

import pytest

from ray.threads import UnawaitedThread


class HeldUp(UnawaitedThread):
    """Does before it says that it runs what a finaliser would do there: it waits for a lock."""

    def __init__(self, lock, ran):
        super().__init__(target=ran.set, name="held-up", daemon=True)
        self.lock = lock

    def _bootstrap(self):
        with self.lock:
            super()._bootstrap()


def test_the_one_that_starts_it_may_hold_what_it_needs():
    lock, ran = threading.Lock(), threading.Event()
    thread = HeldUp(lock, ran)
    assert not thread.is_alive()
    with lock:
        thread.start()
        assert thread.is_alive()
        assert not ran.is_set()
        thread.join(0.01)  # which may end before it has begun
        assert thread.is_alive()
    thread.join(10)
    assert ran.is_set()
    assert not thread.is_alive()


def test_it_is_a_thread_like_others():
    seen = []
    thread = UnawaitedThread(target=lambda: seen.append(threading.current_thread()), name="one", daemon=True)
    thread.start()
    thread.join(10)
    assert seen == [thread]
    assert (thread.name, thread.daemon) == ("one", True)
    with pytest.raises(RuntimeError):
        thread.start()


def test_one_that_the_system_refuses(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("can't start new thread")

    for name in ("_start_new_thread", "_start_joinable_thread"):
        monkeypatch.setattr(threading, name, refuse, raising=False)
    thread = UnawaitedThread(target=print, daemon=True)
    with pytest.raises(RuntimeError, match="new thread"):
        thread.start()
    assert not thread.is_alive()
