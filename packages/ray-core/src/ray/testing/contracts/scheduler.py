"""The contract of the scheduler seam, for pytest.

Example:
    A plugin's whole test file::

        class TestRoundRobin(SchedulerContract):
            @pytest.fixture
            def make_policy(self):
                return RoundRobinPolicy
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ray.abc.scheduler import SchedulerPolicy
from ray.testing.contracts import _checks_scheduler as checks


class SchedulerContract:
    """Inherit it, override ``make_policy``, and pytest runs every check."""

    @pytest.fixture
    def make_policy(self) -> Callable[[], SchedulerPolicy]:
        """Required: return a function that makes a policy, always with the same options."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'make_policy'")

    @pytest.fixture
    def subject(self, make_policy: Callable[[], SchedulerPolicy]) -> checks.SchedulerSubject:
        """What the checks take."""
        return checks.SchedulerSubject(make_policy)

    @pytest.mark.parametrize("check", checks.REQUIRED, ids=lambda check: check.__name__)
    def test_required(self, check: checks.Check, subject: checks.SchedulerSubject) -> None:
        """Every policy."""
        check(subject)
