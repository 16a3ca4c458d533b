"""What tests of programs make of the module ``time``: it stands still, goes back, or leaps."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

YEAR_S = 366 * 24 * 3600.0
UNITS = {
    "time": 1.0,
    "monotonic": 1.0,
    "perf_counter": 1.0,
    "time_ns": 1e9,
    "monotonic_ns": 1e9,
    "perf_counter_ns": 1e9,
}
REAL = {name: getattr(time, name) for name in UNITS}
#: Modules that such libraries leave alone.
LEFT_ALONE = ("threading", "queue", "multiprocessing", "six.moves", "tests.faults.false_clocks")


def now() -> float:
    """Seconds by a clock that nobody replaces, to a hundredth."""
    return os.times().elapsed


def _stands_still() -> Callable[[], float]:
    return lambda: 1.5e9


def _goes_back() -> Callable[[], float]:
    real = REAL["monotonic"]
    return lambda: 1000.0 - 7.0 * real()


def _leaps() -> Callable[[], float]:
    readings = itertools.count(1)
    return lambda: next(readings) * YEAR_S


_SAYS = {"stands_still": _stands_still, "goes_back": _goes_back, "leaps": _leaps}


@contextmanager
def _everywhere(says: Callable[[], float]) -> Iterator[None]:
    """Replace the functions of ``time`` wherever a module holds one, as freezegun does."""

    def false(unit: float) -> Callable[[], float]:
        return (lambda: says()) if unit == 1.0 else (lambda: int(says() * unit))

    fakes = {id(REAL[name]): false(unit) for name, unit in UNITS.items()}
    undo: list[tuple[Any, str, Any]] = []
    for name, module in list(sys.modules.items()):
        if not name.startswith(LEFT_ALONE):
            for attribute, value in list(vars(module).items()) if hasattr(module, "__dict__") else ():
                if id(value) in fakes:
                    undo.append((module, attribute, value))
                    setattr(module, attribute, fakes[id(value)])
    try:
        yield
    finally:
        for module, attribute, value in undo:
            setattr(module, attribute, value)


@contextmanager
def false_clock(kind: str) -> Iterator[None]:
    """The clocks of this process say something false; ``kind`` may be a library for that, or ``patched``: by mock."""
    if kind == "patched":
        with mock.patch.multiple(time, monotonic=lambda: 5.0, time=lambda: 5.0, perf_counter=lambda: 5.0, sleep=int):
            yield
    elif kind == "freezegun":
        with importlib.import_module(kind).freeze_time("2001-01-01"):
            yield
    elif kind == "time_machine":
        with importlib.import_module(kind).travel(1e9, tick=False):
            yield
    else:
        with _everywhere(_SAYS[kind]()):
            yield
