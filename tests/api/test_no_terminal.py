"""What asks the user says in a task that there is no terminal; and a future that is done cannot be cancelled."""

from __future__ import annotations

import io
import pdb  # noqa: T100 - what is tested
import sys

import pytest

import ray

LIMIT_S = 20


@ray.remote(max_retries=0)
def run(ask):
    return ask()


@ray.remote
class Actor:
    def run(self, ask):
        return ask()


def from_a_string():
    before, sys.stdin = sys.stdin, io.StringIO("typed\n")
    try:
        return input()
    finally:
        sys.stdin = before


def breaks():
    breakpoint()  # noqa: T100 - what is tested
    return "went on"


def debugs():
    pdb.set_trace()  # noqa: T100 - what is tested
    return "went on"


def gives_up():
    try:
        return input("A number: ")
    except EOFError:
        return "nobody there"


def test_who_asks_is_told(start, monkeypatch):
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    start(num_cpus=2)
    actor = Actor.remote()
    for call in (run.remote, actor.run.remote):
        with pytest.raises(EOFError, match=r"input\(\) needs a terminal.*local_mode=True"):
            ray.get(call(input), timeout=LIMIT_S)
        with pytest.raises(RuntimeError, match=r"breakpoint\(\) needs a terminal.*local_mode=True"):
            ray.get(call(breaks), timeout=LIMIT_S)
        with pytest.raises(RuntimeError, match=r"The debugger needs a terminal.*local_mode=True"):
            ray.get(call(debugs), timeout=LIMIT_S)
        assert ray.get(call(gives_up), timeout=LIMIT_S) == "nobody there"
        assert ray.get(call(from_a_string), timeout=LIMIT_S) == "typed"


def test_breakpoints_that_the_environment_turns_off(start, monkeypatch):
    monkeypatch.setenv("PYTHONBREAKPOINT", "0")
    start(num_cpus=1)
    assert ray.get(run.remote(breaks), timeout=LIMIT_S) == "went on"


def test_where_the_program_runs_it(ray_session, mode, monkeypatch):
    if mode != "local_mode":
        return
    monkeypatch.setattr(sys, "breakpointhook", lambda: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO("typed\n"))
    assert ray.get(run.remote(breaks)) == "went on"
    assert ray.get(run.remote(from_a_string)) == "typed"


@pytest.mark.parametrize("fails", [False, True])
def test_the_future_of_what_has_ended_cannot_be_cancelled(ray_session, fails):
    @ray.remote(max_retries=0)
    def ends():
        return 1 // (not fails)

    for _ in range(20):
        ref = ends.remote()
        ray.wait([ref])
        future = ref.future()
        assert not future.cancel()
        assert not future.cancelled()
        if fails:
            assert isinstance(future.exception(LIMIT_S), ZeroDivisionError)
        else:
            assert future.result(LIMIT_S) == 1
        assert not future.cancel()


def test_a_future_that_was_cancelled_stays_so(start):
    start(num_cpus=1)
    ref = run.remote(lambda: 1)
    blocker = ref.future()
    cancelled = blocker.cancel()
    assert ray.get(ref, timeout=LIMIT_S) == 1
    assert blocker.cancel() is cancelled
