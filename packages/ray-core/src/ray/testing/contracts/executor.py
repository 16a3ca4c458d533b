"""The contract of the executor seam, for pytest.

Example:
    A plugin's whole test file::

        class TestAsyncio(ExecutorContract):
            is_async = True

            @pytest.fixture
            def make_executor(self):
                return AsyncioExecutor
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import pytest

from ray.abc.executor import Executor
from ray.testing.contracts import _checks_executor as checks

ExecutorMaker: TypeAlias = Callable[[int, Mapping[str, int]], Executor]


class ExecutorContract:
    """Inherit it, override ``make_executor``, and pytest runs every check against fresh executors."""

    #: True for executors of coroutine functions.
    is_async = False

    @pytest.fixture
    def make_executor(self) -> ExecutorMaker:
        """Required: return a function of ``max_concurrency`` and ``concurrency_groups`` that makes an executor."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'make_executor'")

    @pytest.fixture
    def subject(self, make_executor: ExecutorMaker) -> checks.ExecutorSubject:
        """What the checks take."""
        return checks.ExecutorSubject(make_executor, self.is_async)

    @pytest.mark.parametrize("check", checks.REQUIRED, ids=lambda check: check.__name__)
    def test_required(self, check: checks.Check, subject: checks.ExecutorSubject) -> None:
        """Every executor."""
        check(subject)

    @pytest.mark.parametrize(
        ("concurrent", "check"),
        [(concurrent, check) for concurrent, group in checks.BY_CONCURRENCY.items() for check in group],
        ids=lambda value: getattr(value, "__name__", "concurrent" if value else "serial"),
    )
    def test_optional(self, concurrent: bool, check: checks.Check, subject: checks.ExecutorSubject) -> None:
        """Concurrent executors, or those that are not."""
        if subject.make(1, {}).concurrent is not concurrent:
            pytest.skip(f"for executors whose 'concurrent' is {concurrent}")
        check(subject)
