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
from contextlib import AbstractContextManager
from typing import TypeAlias

import pytest

from ray.abc.control import ControlStore
from ray.testing.contracts import (
    _checks_control,
    _checks_control_asks,
    _checks_control_streams,
    _checks_control_times,
)
from ray.testing.contracts._asking import Check, ControlSubject

Silence: TypeAlias = "Callable[[ControlStore], AbstractContextManager[object]]"

_REQUIRED = (
    _checks_control.REQUIRED
    + _checks_control_times.REQUIRED
    + _checks_control_streams.REQUIRED
    + _checks_control_asks.REQUIRED
)


class ControlContract:
    """Inherit it, override ``open_control``, and pytest runs every check against a fresh store."""

    @pytest.fixture
    def open_control(self) -> Iterator[Callable[[], ControlStore]]:
        """Required: yield a function that opens a handle. All its handles share one fresh, empty store."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'open_control'")

    @pytest.fixture
    def silence(self) -> Silence | None:
        """A function that has the store say nothing to a handle until the end of a ``with`` block.

        None, the default, is for stores that cannot be late: they answer in the call of ``ask``.
        """
        return None

    @pytest.fixture
    def subject(self, open_control: Callable[[], ControlStore], silence: Silence | None) -> Iterator[ControlSubject]:
        """What the checks take; closes the first handle after the test."""
        control = open_control()
        yield ControlSubject(control, open_control, silence)
        control.close()

    @pytest.mark.parametrize("check", _REQUIRED, ids=lambda check: check.__name__)
    def test_required(self, check: Check, subject: ControlSubject) -> None:
        """Every control store."""
        check(subject)

    @pytest.mark.parametrize("check", _checks_control_asks.SILENT, ids=lambda check: check.__name__)
    def test_silent(self, check: Check, subject: ControlSubject) -> None:
        """Stores that may be late."""
        if subject.silence is None:
            pytest.skip("this store is never late")
        check(subject)
