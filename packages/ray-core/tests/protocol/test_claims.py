"""What borrowers say that they hold: it counts for as long as they live, and no longer."""

from __future__ import annotations

from ray.protocol.claims import Claims
from ray.protocol.references import ObjectEntry, ReferenceTable

OWNER, ONE, OTHER, THIRD = b"a" * 8, b"b" * 8, b"c" * 8, b"d" * 8


def lent(table: ReferenceTable) -> ObjectEntry:
    """An object that a process holds alone."""
    entry = table.own(OWNER + bytes(8))
    table.grant(entry, ONE)
    return entry


def strike_out(claims: Claims, gone: bytes, *, is_back: bool = False) -> None:
    claims.strike_out(claims.lose(gone), is_back=is_back)


def tells(claims: Claims, table: ReferenceTable, entry: ObjectEntry, giver: bytes, borrower: bytes) -> None:
    table.grant(entry, borrower)
    claims.told(entry.id, borrower, giver, 1)


def gives_back(
    claims: Claims, table: ReferenceTable, entry: ObjectEntry, borrower: bytes, given: list[tuple[bytes, int]]
) -> None:
    table.take_back(entry.id, borrower, sum(credits for _, credits in given))
    claims.returned(entry.id, borrower, given)


def test_what_was_handed_on_outlives_who_has_not_said_so() -> None:
    table = ReferenceTable()
    entry, claims = lent(table), Claims(table)
    claims.claim(entry.id, OTHER, [(ONE, 1)])
    strike_out(claims, ONE)
    assert entry.credits == {OTHER: 1}
    gives_back(claims, table, entry, OTHER, [(ONE, 1)])
    assert list(table.collect()) == [entry]
    assert claims.held == {}


def test_who_has_ended_holds_nothing() -> None:
    table = ReferenceTable()
    entry, claims = lent(table), Claims(table)
    claims.claim(entry.id, ONE, [(OTHER, 1)])
    claims.claim(entry.id, ONE, [(OTHER, 2)])
    claims.let_go(ONE)
    assert list(table.collect()) == [entry]
    assert claims.held == {}


def test_the_word_of_a_living_giver_counts_once_however_late_it_comes() -> None:
    """Another process ends meanwhile, which has handed on nothing."""
    table = ReferenceTable()
    entry, claims = lent(table), Claims(table)
    claims.claim(entry.id, OTHER, [(ONE, 1)])
    table.grant(entry, THIRD)
    strike_out(claims, THIRD)
    tells(claims, table, entry, ONE, OTHER)
    assert entry.credits == {ONE: 1, OTHER: 1}
    gives_back(claims, table, entry, OTHER, [(ONE, 1)])
    strike_out(claims, ONE)
    assert list(table.collect()) == [entry]


def test_what_was_returned_before_a_living_giver_tells_of_it_is_not_forgotten() -> None:
    table = ReferenceTable()
    entry, claims = lent(table), Claims(table)
    gives_back(claims, table, entry, OTHER, [(ONE, 1)])
    strike_out(claims, THIRD)
    tells(claims, table, entry, ONE, OTHER)
    assert entry.credits == {ONE: 1}
    strike_out(claims, ONE)
    assert list(table.collect()) == [entry]


def test_what_was_returned_is_made_up_where_its_giver_has_not_told_of_it() -> None:
    table = ReferenceTable()
    entry, claims = lent(table), Claims(table)
    gives_back(claims, table, entry, OTHER, [(ONE, 1)])
    assert entry.credits == {ONE: 1, OTHER: -1}
    strike_out(claims, ONE)
    assert list(table.collect()) == [entry]


def test_nothing_is_kept_of_what_is_freed() -> None:
    table = ReferenceTable()
    entry, claims = lent(table), Claims(table)
    claims.told(entry.id, OTHER, THIRD, 1)  # of a ref that has not arrived
    strike_out(claims, ONE)
    assert list(table.collect()) == [entry]
    claims.returned(entry.id, OTHER, [(THIRD, 2)])
    strike_out(claims, ONE)
    assert (claims._told, claims._lost, claims.held) == ({}, {}, {})


def test_one_that_has_come_back_holds_what_it_was_handed_since() -> None:
    table = ReferenceTable()
    entry, claims = lent(table), Claims(table)
    claims.claim(entry.id, ONE, [(OTHER, 1)])
    lost = claims.lose(ONE)
    table.grant(entry, ONE)
    again = claims.lose(ONE)
    table.grant(entry, ONE, 2)
    claims.claim(entry.id, ONE, [(OTHER, 2)])
    claims.strike_out(lost, is_back=True)
    assert entry.credits == {ONE: 3}
    claims.strike_out(again, is_back=True)
    assert entry.credits == {ONE: 2}
    assert entry.pins == 1
    gives_back(claims, table, entry, ONE, [(OTHER, 2)])
    assert list(table.collect()) == [entry]
    assert claims.held == {}


def test_one_that_has_come_back_has_lost_what_it_had_said_of_others() -> None:
    table = ReferenceTable()
    entry, claims = lent(table), Claims(table)
    claims.claim(entry.id, OTHER, [(ONE, 1)])
    lost = claims.lose(ONE)
    claims.strike_out(lost, is_back=True)
    assert entry.credits == {OTHER: 1}
    tells(claims, table, entry, ONE, OTHER)  # it hands on another one
    claims.claim(entry.id, OTHER, [(ONE, 2)])
    strike_out(claims, ONE)
    assert entry.credits == {OTHER: 2}
