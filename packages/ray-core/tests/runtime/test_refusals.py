"""What is told of peers that were dropped: enough to find the cause, and not more than that."""

from __future__ import annotations

from ray.exceptions import RemoteProtocolError
from ray.runtime.process.refusals import Refusals


def caught(error: Exception) -> Exception:
    """The error, as one that was raised."""
    try:
        raise error
    except Exception as raised:
        return raised


def test_a_breach_of_the_protocol_is_one_line() -> None:
    said: list[str] = []
    Refusals(said.append).note(caught(RemoteProtocolError("no message")))
    assert said == ["dropping a connection: no message"]


def test_a_mistake_of_our_own_shows_where_it_was_made() -> None:
    said: list[str] = []
    Refusals(said.append).note(caught(KeyError("key")))
    assert "Traceback" in said[0]
    assert "in caught" in said[0]
    assert said[0].endswith("KeyError: 'key'")


def test_many_are_told_once_a_second() -> None:
    said: list[str] = []
    now = [0.0]
    refusals = Refusals(said.append, clock=lambda: now[0])
    for number in range(1000):
        now[0] = number / 400
        refusals.note(caught(RemoteProtocolError(f"number {number}")))
    assert len(said) == 3
    assert said[1] == "dropping a connection: number 400 (399 more since this was last told)"
