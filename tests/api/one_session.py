"""One session in each mode for all tests of a module, which import both fixtures: quicker than one for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.sessions import MODES

import ray
from ray.testing import leaks


@pytest.fixture(scope="module", autouse=True, params=MODES)
def session(request: pytest.FixtureRequest) -> Iterator[str]:
    """The mode; the session is started, and checked for what it leaves behind."""
    before = leaks.snapshot()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with ray.init(local_mode=request.param == "local_mode", num_cpus=4):
            yield request.param
    leaks.assert_clean(before)


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """Takes the place of the check around each test, which wants no session."""
