"""The page for contributors names functions in the order in which they run: it is compared with two runs."""

from __future__ import annotations

import builtins
import os
import re
import sys
from pathlib import Path

import pytest

import ray

PAGE = Path(__file__).resolve().parents[2] / "docs" / "walks.md"
_OWN = os.path.dirname(ray.__file__) + os.sep
_NOTED = "_ray_walks"


def walks() -> list[list[str]]:
    """The steps of each table."""
    tables = re.split(r"^\| step \|.*$", PAGE.read_text(), flags=re.MULTILINE)[1:]
    return [re.findall(r"^\| `([\w.]+:[\w.]+)` \|", table, flags=re.MULTILINE) for table in tables]


def note_calls(seen: list[str]) -> None:
    """Have the calls of this thread noted from now on, but those of others' code."""

    def note(frame, event, _):
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(_OWN):
            module = file[len(_OWN) :].removesuffix(".py").replace(os.sep, ".")
            seen.append(f"{module}:{frame.f_code.co_qualname}")

    sys.setprofile(note)


@ray.remote
def echo(value):
    return value


@ray.remote
def begin():
    setattr(builtins, _NOTED, [])
    note_calls(getattr(builtins, _NOTED))


@ray.remote
def noted():
    sys.setprofile(None)
    return getattr(builtins, _NOTED)


def after(steps: list[str], seen: list[str]) -> list[str]:
    """The steps that are not met in their order."""
    rest = iter(seen)
    return [step for step in steps if step not in rest]


@pytest.fixture
def session():
    with ray.init(num_cpus=1, transport="unix"):
        for number in range(20):  # the function is known, and known to be short
            assert ray.get(echo.remote(number)) == number
        yield


def submitted() -> list[str]:
    seen: list[str] = []
    note_calls(seen)
    ref = echo.remote(1)
    sys.setprofile(None)
    assert ray.get(ref) == 1
    return seen


def run() -> list[str]:
    ray.get(begin.remote())
    assert ray.get(echo.remote(2)) == 2
    seen: list[str] = ray.get(noted.remote())
    return seen


def got() -> list[str]:
    seen: list[str] = []
    ref = echo.remote(1)
    note_calls(seen)
    value = ray.get(ref)
    sys.setprofile(None)
    assert value == 1
    return seen


@pytest.mark.parametrize(("number", "walk"), list(enumerate([submitted, run, got])), ids=["task", "worker", "get"])
def test_steps_are_met_in_their_order(session, number, walk):
    """Any thread may take messages, so not each run shows all of them here."""
    steps = walks()[number]
    assert len(steps) > 5
    for _ in range(100):
        missing = after(steps, walk())
        if not missing:
            return
    pytest.fail(f"not met: {missing}")
