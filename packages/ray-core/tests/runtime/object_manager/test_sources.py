"""Whom to ask for an object, in rounds."""

from __future__ import annotations

import pytest

from ray.runtime.object_manager.sources import PATIENCE_S, RefusedError, Sources

OWN, ORIGIN, A, B = b"\0\0\0\1", b"\0\0\0\2", b"\0\0\0\3", b"\0\0\0\4"


@pytest.fixture
def sources() -> Sources:
    return Sources(OWN, ORIGIN)


def round_of(sources: Sources) -> list[bytes]:
    """Those that are asked in one round, if all have others to send it to."""
    asked = []
    while (node := sources.next()) is not None:
        asked.append(node)
        sources.busy(node)
    return asked


def test_the_origin_first_and_then_those_that_were_named(sources: Sources) -> None:
    assert sources.next() == ORIGIN
    sources.named([OWN, A, ORIGIN, B])
    assert round_of(sources) == [ORIGIN, A, B]
    assert sources.again(0.0) == 0.0
    sources.named([B])
    assert round_of(sources) == [ORIGIN, B, A]
    assert sources.again(0.0) > 0.0


def test_what_was_sent_begins_a_new_round(sources: Sources) -> None:
    sources.named([A])
    sources.busy(ORIGIN)
    sources.failed(A, OSError("cut"))
    assert sources.next() is None
    sources.sent()
    assert round_of(sources) == [ORIGIN, A]


def test_all_that_fail_are_tried_for_a_while(sources: Sources) -> None:
    sources.named([A])
    now = 0.0
    for _ in range(3):
        while (node := sources.next()) is not None:
            sources.failed(node, OSError("cut"))
        now += sources.again(now)
    assert now >= PATIENCE_S
    with pytest.raises(OSError, match="cut"):
        sources.again(now)


def test_slow_failures_are_tried_twice(sources: Sources) -> None:
    sources.failed(ORIGIN, OSError("slow"))
    sources.again(10.0)
    sources.failed(ORIGIN, OSError("slow"))
    with pytest.raises(OSError, match="slow"):
        sources.again(15.0)


def test_who_is_busy_is_waited_for(sources: Sources) -> None:
    for _ in range(100):
        assert round_of(sources) == [ORIGIN]
        assert sources.again(0.0) <= 0.2


def test_what_its_origin_does_not_have_is_lost_unless_others_have_it(sources: Sources) -> None:
    sources.named([A])
    sources.refused(ORIGIN, "freed")
    assert sources.next() == A
    sources.sent()
    assert sources.next() == A
    sources.refused(A, "gone")
    sources.named([A])
    assert sources.next() is None
    with pytest.raises(RefusedError, match="freed"):
        sources.again(0.0)


def test_a_dead_node_is_not_asked(sources: Sources) -> None:
    sources.named([A])
    sources.gone(ORIGIN)
    assert round_of(sources) == [A]
    sources.again(0.0)
    sources.gone(A)
    assert sources.next() is None
    with pytest.raises(ConnectionError):
        sources.again(0.0)
