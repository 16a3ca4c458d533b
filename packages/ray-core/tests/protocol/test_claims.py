"""What borrowers say that they hold: it counts for as long as they live, and no longer."""

from __future__ import annotations

from ray.protocol.claims import Claims
from ray.protocol.references import ObjectEntry, ReferenceTable

OWNER, ONE, OTHER = b"a" * 8, b"b" * 8, b"c" * 8


def lent(table: ReferenceTable) -> ObjectEntry:
    """An object that a process holds alone."""
    entry = table.own(OWNER + bytes(8))
    table.grant(entry, ONE)
    return entry


def test_what_was_handed_on_outlives_who_has_not_said_so() -> None:
    table = ReferenceTable()
    entry, claims = lent(table), Claims(table)
    claims.claim(entry.id, OTHER, 1)
    claims.strike_out(ONE)
    assert entry.credits == {OTHER: 1}
    table.take_back(entry.id, OTHER, 1)
    claims.returned(entry.id, OTHER)
    assert list(table.collect()) == [entry]
    assert claims.held == {}


def test_who_has_ended_holds_nothing() -> None:
    table = ReferenceTable()
    entry, claims = lent(table), Claims(table)
    claims.claim(entry.id, ONE, 1)
    claims.claim(entry.id, ONE, 2)
    claims.let_go(ONE)
    assert list(table.collect()) == [entry]
    assert claims.held == {}
