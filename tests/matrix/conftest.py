"""Sessions over combinations of parts.

By default each pair of parts meets in at least one combination; with ``RAY_TEST_MATRIX=all`` every combination runs.
Only what is installed takes part, so the same tests cover more as plugins are added to the environment.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest

import ray
from ray.exceptions import IncompatiblePluginsError
from ray.plugins import resolve_plan

SEAMS = ("store", "transport", "scheduler", "control")

#: Parts for one process only.
NOT_BETWEEN_PROCESSES = {"inproc"}

Combination = tuple[str, ...]


def installed(seam: str) -> list[str]:
    return sorted({entry.name for entry in entry_points(group=f"ray.{seam}")} - NOT_BETWEEN_PROCESSES)


def fits(combination: Combination) -> bool:
    try:
        resolve_plan(**dict(zip(SEAMS, combination, strict=True)))
    except IncompatiblePluginsError:
        return False
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
    return everything if os.environ.get("RAY_TEST_MATRIX") == "all" else pairwise(everything)


@pytest.fixture(params=combinations(), ids="-".join)
def session(request: pytest.FixtureRequest) -> Iterator[Combination]:
    """A session of two processors over one combination."""
    combination: Combination = request.param
    with ray.init(num_cpus=2, log_to_driver=False, **dict(zip(SEAMS, combination, strict=True))):
        yield combination
