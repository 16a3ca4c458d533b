"""What every store must do in ``put``. Each check takes a ``StoreSubject`` and raises ``ContractViolationError``."""

from __future__ import annotations

from collections.abc import Iterator

from ray.exceptions import ObjectExistsError
from ray.testing.contracts._checks_store import Check, StoreSubject, an_id, read
from ray.testing.contracts._expect import eventually, expect, expect_equal, expect_raises


def put_stores_the_pieces_in_their_order(subject: StoreSubject) -> None:
    half = bytes(subject.capacity_bytes // 4)
    several: list[list[bytes | memoryview]] = [
        [], [b""], [b"abc"], [b"a", memoryview(b"bc"), b"d" * 70_000], [half, half]
    ]  # fmt: skip
    for number, pieces in enumerate(several):
        data = b"".join(pieces)
        subject.store.put(an_id(number), pieces, len(data))
        expect_equal(read(subject.store, an_id(number)), data, "put stores its pieces, one after the other")
        with expect_raises(ObjectExistsError, "put refuses a sealed id"):
            subject.store.put(an_id(number), [b"x"], 1)
        subject.store.delete(an_id(number))


class _BreaksOff(list[bytes | memoryview]):
    """Pieces whose maker fails after the first."""

    def __iter__(self) -> Iterator[bytes | memoryview]:
        yield self[0]
        raise InterruptedError("by a check")


def a_put_that_breaks_off_leaves_nothing(subject: StoreSubject) -> None:
    store, before = subject.store, subject.store.stats()
    for number, size in enumerate((10, 100_000, subject.capacity_bytes // 2)):
        with expect_raises(InterruptedError, "put lets the error of its pieces through"):
            store.put(an_id(number), _BreaksOff([bytes(size // 2), bytes(size // 2)]), size)
        expect(store.get(an_id(number)) is None, "a put that breaks off leaves no object")
        eventually(lambda: store.stats() == before, "a put that breaks off gives its memory back", 1.0)
        store.put(an_id(number), [b"again"], 5)
        expect_equal(read(store, an_id(number)), b"again", "an id whose put broke off can be put again")
        store.delete(an_id(number))


def what_is_put_may_change_afterwards(subject: StoreSubject) -> None:
    """The pieces are memory of the user's values."""
    for number, nbytes in enumerate((10, 100_000, subject.capacity_bytes // 2)):
        memory = bytearray(b"a" * nbytes)
        with memoryview(memory) as piece:
            subject.store.put(an_id(number), [piece], nbytes)
        memory[:] = b"b" * nbytes
        expect_equal(read(subject.store, an_id(number)), b"a" * nbytes, "put has copied its pieces when it returns")
        subject.store.delete(an_id(number))


PUTS: tuple[Check, ...] = (
    put_stores_the_pieces_in_their_order,
    a_put_that_breaks_off_leaves_nothing,
    what_is_put_may_change_afterwards,
)
