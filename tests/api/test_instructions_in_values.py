"""What unpickling raises that is no failure but an instruction: it does not reach the program, unless that gave it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import pytest
from tests.api.one_session import nothing_left, session

import ray
from ray.exceptions import DeserializationError, RayTaskError

__all__ = ["nothing_left", "session"]

LARGE = b"x" * 500_000


class Instruction(BaseException):
    """One that nobody knows."""


KINDS = [SystemExit, GeneratorExit, asyncio.CancelledError, Instruction]


def obey(kind, ballast):
    raise kind("from a value")


class Instructs:
    def __init__(self, kind, ballast=b""):
        self.kind, self.ballast = kind, ballast

    def __reduce__(self):
        return obey, (self.kind, self.ballast)


@ray.remote
def make(kind, ballast=b""):
    return Instructs(kind, ballast)


@ray.remote
def take(value):
    return value


async def awaited(ref):
    return await ref


@pytest.mark.parametrize("ballast", [b"", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_an_error_of_the_value(kind, ballast):
    ref = make.remote(kind, ballast)
    for get in (ray.get, lambda ref: asyncio.run(awaited(ref)), lambda ref: ref.future().result(timeout=20)):
        with pytest.raises(DeserializationError, match=rf"{kind.__name__}\('from a value'\)") as caught:
            get(ref)
        assert not isinstance(caught.value, kind)
        assert "in obey" in str(caught.value)
    with pytest.raises((RayTaskError, DeserializationError), match=kind.__name__):
        ray.get(take.remote(ref))


def test_an_interrupt_is_that_of_the_user():
    """Nobody can tell one from the other."""
    ref = make.remote(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        ray.get(ref)


def slowly(number):
    """As it is opened in the driver, the program gets a signal."""
    os.kill(os.getpid(), number)
    time.sleep(0.01)
    return "opened"


class Slow:
    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return slowly, (self.number,)


class Late(Exception):
    pass


def late(number, frame):
    raise Late


@pytest.mark.parametrize(("handler", "kind"), [(late, Late), (lambda number, frame: sys.exit(7), SystemExit)])
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_what_a_handler_of_the_program_raises_is_no_error_of_the_value(session, handler, kind, number):
    if session == "local_mode":
        pytest.skip("what comes in the middle of a call cannot be told from what the call does")
    before = signal.signal(number, handler)
    try:
        ref = ray.remote(lambda: Slow(number)).remote()
        with pytest.raises(kind) as caught:
            ray.get(ref, timeout=20)
        assert type(caught.value) is kind
        signal.signal(number, lambda number, frame: None)
        assert ray.get(ref, timeout=20) == "opened"
    finally:
        signal.signal(number, before)
