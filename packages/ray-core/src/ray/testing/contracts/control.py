"""The contract of the control seam, for pytest.

Example:
    A plugin's whole test file::

        class TestRedis(ControlContract):
            @pytest.fixture
            def open_control(self, tmp_path):
                server = RedisControlServer(str(tmp_path))
                yield lambda: RedisControlStore(server.address)
                server.close()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ray.abc.control import ControlStore
from ray.testing.contracts import _checks_control as checks


class ControlContract:
    """Inherit it, override ``open_control``, and pytest runs every check against a fresh store."""

    @pytest.fixture
    def open_control(self) -> Iterator[Callable[[], ControlStore]]:
        """Required: yield a function that opens a handle. All its handles share one fresh, empty store."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'open_control'")

    @pytest.fixture
    def subject(self, open_control: Callable[[], ControlStore]) -> Iterator[checks.ControlSubject]:
        """What the checks take; closes the first handle after the test."""
        control = open_control()
        yield checks.ControlSubject(control, open_control)
        control.close()

    @pytest.mark.parametrize("check", checks.REQUIRED, ids=lambda check: check.__name__)
    def test_required(self, check: checks.Check, subject: checks.ControlSubject) -> None:
        """Every control store."""
        check(subject)
