"""The contract of the transport seam, for pytest.

Example:
    A plugin's whole test file::

        class TestZmq(TransportContract):
            @pytest.fixture
            def make_transport(self, tmp_path):
                return lambda: ZmqTransport(str(tmp_path))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from ray.abc.transport import Transport
from ray.testing.contracts._checks_transport import MESSAGES
from ray.testing.contracts._checks_transport_dialling import BLACK_HOLES, DIALLING
from ray.testing.contracts._checks_transport_ends import ENDS
from ray.testing.contracts._checks_transport_interrupted import INTERRUPTED
from ray.testing.contracts._checks_transport_strangers import STRANGERS
from ray.testing.contracts._checks_transport_watched import WATCHED, WATCHED_BLACK_HOLES
from ray.testing.contracts._link import Check, TransportSubject
from ray.testing.contracts._watched import WatchedTransport

#: Every check.
REQUIRED = (*MESSAGES, *DIALLING, *ENDS)


class TransportContract:
    """Inherit it, override ``make_transport``, and pytest runs every check against fresh transports."""

    #: Whether other processes than those of a session can connect. Set it to False where none can.
    meets_strangers = True
    #: Whether finalisers and signal handlers may use it inside calls of it. Only what no session uses may do without.
    may_be_interrupted = True

    @pytest.fixture
    def make_transport(self) -> Callable[[], Transport]:
        """Required: return a function that makes a transport; all that it makes can reach each other."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'make_transport'")

    @pytest.fixture
    def black_hole(self) -> Callable[[], AbstractContextManager[str]] | None:
        """Required where a listener may fail to answer: return what opens such a one and yields its address."""
        return None

    @pytest.fixture
    def subject(
        self, make_transport: Callable[[], Transport], black_hole: Callable[[], AbstractContextManager[str]] | None
    ) -> Iterator[TransportSubject]:
        """What the checks take; closes every transport after the test."""
        made: list[Transport] = []

        def make() -> Transport:
            transport = make_transport()
            made.append(transport)
            return transport

        yield TransportSubject(make, black_hole)
        for transport in reversed(made):
            transport.close()

    @pytest.mark.parametrize("check", REQUIRED, ids=lambda check: check.__name__)
    def test_required(self, check: Check, subject: TransportSubject) -> None:
        """Every transport."""
        check(subject)

    @pytest.mark.parametrize("check", BLACK_HOLES, ids=lambda check: check.__name__)
    def test_black_holes(self, check: Check, subject: TransportSubject) -> None:
        """Transports whose listeners may fail to answer."""
        if subject.black_hole is None:
            pytest.skip("every listener answers")
        check(subject)

    @pytest.mark.parametrize("check", INTERRUPTED, ids=lambda check: check.__name__)
    def test_interrupted(self, check: Check, subject: TransportSubject) -> None:
        """Every transport that sessions use."""
        if not self.may_be_interrupted:
            pytest.skip("no session uses it")
        check(subject)

    @pytest.mark.parametrize("check", STRANGERS, ids=lambda check: check.__name__)
    def test_strangers(self, check: Check, subject: TransportSubject) -> None:
        """Transports that others can reach."""
        if not self.meets_strangers:
            pytest.skip("nobody else can connect")
        check(subject)


class WatchableTransportContract(TransportContract):
    """Inherit this one where the poll of another transport can watch it: the capability ``watchable``."""

    @pytest.mark.parametrize("check", WATCHED, ids=lambda check: check.__name__)
    def test_watched(self, check: Check, subject: TransportSubject) -> None:
        """Its descriptor tells of everything."""
        check(subject)

    @pytest.mark.parametrize("check", WATCHED_BLACK_HOLES, ids=lambda check: check.__name__)
    def test_watched_black_holes(self, check: Check, subject: TransportSubject) -> None:
        """The same, where listeners may fail to answer."""
        if subject.black_hole is None:
            pytest.skip("every listener answers")
        check(subject)

    @pytest.mark.parametrize("check", REQUIRED, ids=lambda check: check.__name__)
    def test_required_when_watched(self, check: Check, subject: TransportSubject) -> None:
        """It is like any other when another poll waits for it."""
        check(TransportSubject(lambda: WatchedTransport(subject.make()), subject.black_hole))
