"""Threads and flags that finalisers and handlers of signals may meet half way."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from ray.threads import Flag, UnawaitedThread


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


def test_a_flag_may_be_set_at_every_point_of_being_set():
    flag, points = Flag(), 0

    def trace(frame, event, arg):
        nonlocal points
        if frame.f_code is Flag.set.__code__:
            frame.f_trace_opcodes = True
            if event == "opcode":
                points += 1
                sys.settrace(None)
                flag.set()
                sys.settrace(trace)
            return trace
        return None

    sys.settrace(trace)
    try:
        flag.set()
    finally:
        sys.settrace(None)
    assert points
    assert flag.wait(0)


def test_a_flag_lets_through_who_waits_until_it_is_cleared():
    flag, passed = Flag(), threading.Event()
    assert not flag.wait(0)
    thread = threading.Thread(target=lambda: flag.wait() and passed.set(), daemon=True)
    thread.start()
    time.sleep(0.05)
    assert not passed.is_set()
    flag.set()
    thread.join(10)
    assert passed.is_set()
    assert flag.wait()
    flag.clear()
    flag.clear()
    assert not flag.wait(0.01)
