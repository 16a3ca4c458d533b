"""Objects that a process completes itself, and hears of when nobody holds them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from ray.protocol.references import PENDING, READY, ObjectEntry, ReferenceTable
from ray.runtime.owner.inspection import serves_others
from ray.runtime.owner.promises import Promise, Promises

OTHER = bytes(7) + b"\x01"


class Host:
    def check_open(self) -> None:
        pass


@pytest.fixture
def table() -> ReferenceTable:
    return ReferenceTable()


@pytest.fixture
def unheld() -> list[str]:
    return []


@pytest.fixture
def made(table: ReferenceTable, unheld: list[str]) -> tuple[Any, Callable[[], None]]:
    host: Any = Host()
    return Promises(host, threading.RLock(), table, lambda: bytes(15) + b"\x01").promise(lambda: unheld.append("told"))


def only(table: ReferenceTable) -> ObjectEntry:
    (entry,) = table.entries.values()
    return entry


def freed(table: ReferenceTable) -> list[Any]:
    """What is let go of, as the runtime does it."""
    found = list(table.collect())
    for entry in found:
        if type(entry.task) is Promise:
            entry.task.unheld()
    return found


def test_it_is_pending_until_it_is_kept(table: ReferenceTable, made: Any) -> None:
    ref, keep = made
    entry = only(table)
    assert entry.status == PENDING
    keep()
    keep()
    assert entry.status == READY
    assert ref.done()


@pytest.mark.parametrize("kept", [False, True])
def test_its_maker_hears_when_the_last_holder_lets_go(
    table: ReferenceTable, made: Any, unheld: list[str], kept: bool
) -> None:
    _, keep = made
    entry = only(table)
    table.grant(entry, OTHER)
    entry.local = 0  # the maker's own ref has gone
    if kept:
        keep()
    table.dropped.append(entry)
    assert freed(table) == []
    assert unheld == []
    table.borrower_lost(OTHER)
    assert freed(table) == [entry]
    assert unheld == ["told"]


def test_kept_too_late_it_does_nothing(table: ReferenceTable, made: Any) -> None:
    _, keep = made
    entry = only(table)
    entry.local = 0
    table.dropped.append(entry)
    freed(table)
    keep()
    assert entry.status == PENDING


def test_it_keeps_no_process_from_ending(table: ReferenceTable, made: Any) -> None:
    entry = only(table)
    table.grant(entry, OTHER)
    assert not serves_others(entry)
