"""The contract of the selector seam, for pytest.

Example:
    A plugin's whole test file::

        class TestKqueue(SelectorContract):
            @pytest.fixture
            def make_selector(self):
                return lambda runtime: KqueueSelector()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ray
from ray.abc.selector import ObjectSelector
from ray.testing.contracts import _checks_selector as checks
from ray.testing.contracts import _checks_selector_ends as ends


class SelectorContract:
    """Inherit it, override ``make_selector``, and pytest runs every check, in a session that it starts."""

    @pytest.fixture
    def make_selector(self) -> Callable[[Any], ObjectSelector]:
        """Required: return a function of the session (what ``ray_make_selector`` gets) that makes a selector."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'make_selector'")

    @pytest.fixture
    def subject(self, make_selector: Callable[[Any], ObjectSelector]) -> checks.SelectorSubject:
        """What the checks take."""
        if not ray.is_initialized():
            ray.init(num_cpus=1, log_to_driver=False)
        return checks.SelectorSubject(make_selector)

    @classmethod
    def teardown_class(cls) -> None:
        """End the session."""
        ray.shutdown()

    @pytest.mark.parametrize("check", checks.REQUIRED + ends.REQUIRED, ids=lambda check: check.__name__)
    def test_required(self, check: checks.Check, subject: checks.SelectorSubject) -> None:
        """Every selector."""
        check(subject)
