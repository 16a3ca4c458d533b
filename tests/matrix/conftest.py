"""Sessions over combinations of parts.

By default each pair of parts meets in at least one combination; with ``RAY_TEST_MATRIX=all`` every combination runs,
but of those with a server beside the session only such a choice. Only what is installed takes part, so the same tests
cover more as plugins are added to the environment.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest

import ray
from ray.exceptions import IncompatiblePluginsError, PluginNotInstalledError, PluginOptionsError
from ray.plugins import resolve_plan
from ray.testing import leaks

SEAMS = ("store", "transport", "scheduler", "control", "selector")

#: Parts for one process only.
NOT_BETWEEN_PROCESSES = {"inproc"}

#: Control stores that no task and no object comes near.
WITH_A_SERVER = {"redis"}

Combination = tuple[str, ...]


def installed(seam: str) -> list[str]:
    return sorted({entry.name for entry in entry_points(group=f"ray.{seam}")} - NOT_BETWEEN_PROCESSES)


def fits(combination: Combination) -> bool:
    try:
        resolve_plan(**dict(zip(SEAMS, combination, strict=True)))
    except (IncompatiblePluginsError, PluginNotInstalledError):
        return False
    except PluginOptionsError:
        if combination[SEAMS.index("control")] not in WITH_A_SERVER:
            raise
        return False  # this machine has none
    return True


def pairs(combination: Combination) -> set[tuple[int, str, int, str]]:
    return {(i, combination[i], j, combination[j]) for i, j in itertools.combinations(range(len(combination)), 2)}


def pairwise(combinations: list[Combination]) -> list[Combination]:
    """A small choice in which every pair of parts that occurs at all occurs: greedily the most useful next."""
    missing = set().union(*map(pairs, combinations))
    chosen: list[Combination] = []
    while missing:
        best = max(combinations, key=lambda combination: len(pairs(combination) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


def combinations() -> list[Combination]:
    everything = [combination for combination in itertools.product(*map(installed, SEAMS)) if fits(combination)]
    if os.environ.get("RAY_TEST_MATRIX") != "all":
        return pairwise(everything)
    beside = [combination for combination in everything if combination[SEAMS.index("control")] in WITH_A_SERVER]
    return [combination for combination in everything if combination not in beside] + (
        pairwise(beside) if beside else []
    )


#: Everything in this process, whatever parts there are.
LOCAL_MODE: Combination = ("local_mode",)


@pytest.fixture(scope="module", params=[*combinations(), LOCAL_MODE], ids="-".join)
def session(request: pytest.FixtureRequest) -> Iterator[Combination]:
    """A session of two processors over one combination, or in local mode, for all tests of a module."""
    combination: Combination = request.param
    before = leaks.snapshot()
    if combination == LOCAL_MODE:
        started = ray.init(num_cpus=2, local_mode=True, log_to_driver=False)
    else:
        started = ray.init(num_cpus=2, log_to_driver=False, **dict(zip(SEAMS, combination, strict=True)))
    with started:
        yield combination
    leaks.assert_clean(before)


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """Takes the place of the check around each test, which wants no session."""


@pytest.fixture
def processes(session: Combination) -> None:
    """Only where tasks run in processes of their own."""
    if session == LOCAL_MODE:
        pytest.skip("in local mode nothing runs at the same time, and nothing can be killed")
