"""What the page on errors says of types that are also the original's, and of ``ray.error_info``."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import types
from typing import Any

import pytest
from tests.api.one_session import nothing_left

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.testing import eventually

__all__ = ["nothing_left"]


@pytest.fixture(params=["session", "local_mode"], scope="module", autouse=True)
def mode(request):
    options: dict[str, Any] = {"num_cpus": 2, "log_to_driver": False} if request.param == "session" else {}
    with ray.init(local_mode=request.param == "local_mode", **options):
        yield request.param


class OwnExit(SystemExit):
    pass


class OwnBase(BaseException):
    pass


INSTRUCTIONS = {
    "SystemExit": lambda: SystemExit(3),
    "OwnExit": lambda: OwnExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "StopIteration": lambda: StopIteration(5),
    "StopAsyncIteration": StopAsyncIteration,
    "OwnBase": lambda: OwnBase("x"),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("several", [KeyboardInterrupt()]),
}


def made(name):
    return INSTRUCTIONS[name]()


@ray.remote(num_cpus=0)
def raises(name):
    raise made(name)


@ray.remote(num_cpus=0)
class Raises:
    def __init__(self, name=""):
        if name:
            raise made(name)

    def raises(self, name):
        raise made(name)

    def exits(self):
        sys.exit(3)

    def ends(self):
        sys.exit(0)


def caught_from(ref: Any) -> Any:
    """What get raises, if it is an error like others, and of no other type."""
    with pytest.raises(Exception) as caught:
        ray.get(ref, timeout=40)
    return caught.value


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_an_instruction_is_not_given_to_whoever_gets_it(name, mode):
    if mode == "local_mode" and name == "KeyboardInterrupt":
        pytest.skip("there it may be the Ctrl-C of the program")
    refs = [raises.remote(name), next(raises.options(num_returns="streaming").remote(name))]
    if not name.endswith("Exit") or name == "GeneratorExit":
        refs.append(Raises.remote().raises.remote(name))
    for ref in refs:
        error = caught_from(ref)
        assert type(error) is RayTaskError
        assert type(error.__cause__).__name__ == name
        assert name in str(error)
    error = caught_from(Raises.remote(name).raises.remote(name))
    assert type(error) is RayActorError
    assert type(error.__cause__).__name__ == name


def test_sys_exit_in_a_method_ends_the_actor():
    for method, code in (("exits", 3), ("ends", 0)):
        error = caught_from(getattr(Raises.remote(), method).remote())
        assert type(error) is RayActorError
        assert (error.exit_code, error.__cause__) == (code, None)


def test_the_nearest_base_of_a_type_that_is_missing_here(mode):
    if mode == "local_mode":
        pytest.skip("nothing is missing there")

    @ray.remote(num_cpus=0)
    def fails(base):
        there = sys.modules["only_there"] = types.ModuleType("only_there")
        exec(f"class Missing({base}): pass", there.__dict__)
        raise there.Missing("what it says")

    for base, expected in (("KeyError", KeyError), ("Exception", RayTaskError)):
        error = caught_from(fails.remote(base))
        assert isinstance(error, expected)
        assert isinstance(error, RayTaskError)
        assert (error.__cause__, error.cause_type) == (None, "only_there.Missing")
        assert "what it says" in str(error)
        assert "raise there.Missing" in str(error)


def rows(function: str) -> list[dict[str, Any]]:
    return [row for row in ray.error_info() if row["function"] == function]


def come(function: str) -> list[dict[str, Any]]:
    return eventually(lambda: rows(function), 40, f"nothing is told of {function}")


def test_what_is_kept(mode):
    @ray.remote(num_cpus=0, name="asked_for")
    def fails():
        raise KeyError("a")

    before = time.time()
    ref = fails.remote()
    assert isinstance(caught_from(ref), KeyError)
    [row] = come("asked_for")
    assert set(row) == {"type", "message", "timestamp", "function", "pid", "task_id", "actor_id"}
    assert (row["type"], row["task_id"], row["actor_id"]) == ("task", ref.task_id().hex(), "")
    assert "KeyError: 'a'" in row["message"]
    assert before - 1 < row["timestamp"] < time.time() + 1
    assert (row["pid"] == os.getpid()) == (mode == "local_mode")

    actor = Raises.remote()
    caught_from(actor.raises.remote("OwnBase"))
    assert come("Raises.raises")[-1]["actor_id"] in repr(actor)
    caught_from(actor.ends.remote())
    assert not rows("Raises.ends")
    assert [row["timestamp"] for row in ray.error_info()] == sorted(row["timestamp"] for row in ray.error_info())


def test_what_was_cancelled_is_not_kept(mode):
    if mode == "local_mode":
        pytest.skip("nothing runs there that could be cancelled")

    @ray.remote(num_cpus=0, name="cancelled")
    def waits():
        threading.Event().wait(50)

    @ray.remote(num_cpus=0, name="afterwards")
    def fails():
        raise KeyError("a")

    ref = waits.remote()
    ray.cancel(ref)
    caught_from(ref)
    caught_from(fails.remote())
    come("afterwards")
    assert not rows("cancelled")


def test_the_latest_thousand_are_kept():
    @ray.remote(num_cpus=0, name="many")
    def fails():
        raise KeyError("a")

    refs = [fails.remote() for _ in range(1100)]
    ray.wait(refs, num_returns=len(refs))
    eventually(lambda: len(rows("many")) >= 1000, 40)
    assert len(ray.error_info()) == 1000
