"""Where a signal handler of the program may raise: not in code of ours, nor in what is made from a text for a class."""

from __future__ import annotations

import sys
from collections import namedtuple
from dataclasses import dataclass

import pytest

from ray.abc.store import StoreStats
from ray.runtime.cluster.places import Place
from ray.runtime.process.interrupts import in_critical_code

Theirs = namedtuple("Theirs", "value")  # noqa: PYI024 - as programs have them


@dataclass
class TheirsAsWell:
    value: object


def looks_inside(call):
    """What is found at the first step inside what ``call`` calls."""
    found = []

    def profile(frame, event, arg):
        if event == "call" and frame.f_code.co_filename == "<string>" and not found:
            found.append(frame)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return in_critical_code(found[0])


def test_methods_that_dataclasses_make_are_of_the_module_of_the_class():
    assert looks_inside(lambda: StoreStats(1, 2, 3))
    assert not looks_inside(lambda: TheirsAsWell(1))


@pytest.mark.parametrize("made", [lambda: Theirs(1), lambda: Place("host", 1)])
def test_those_of_named_tuples_are_of_their_caller(made):
    assert not looks_inside(made)


def test_a_program_that_is_a_text_is_the_users():
    found = []
    exec(
        "found.append(look())",
        {"found": found, "look": lambda: in_critical_code(sys._getframe(1)), "__name__": "__main__"},
    )
    assert found == [False]
