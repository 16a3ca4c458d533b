"""What can be asked of a control store: small frozen structs, each typed by its answer."""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct

from ray.exceptions import ControlKindError

T = TypeVar("T")

#: A counter is a whole number of so many bits, with a sign.
COUNTER_BITS = 64


class Operation(Struct, Generic[T], frozen=True):
    """One thing to ask; ``T`` is the type of its answer. Keys are text."""

    key: str


class Get(Operation["bytes | None"], frozen=True):
    """The value at ``key``; None where the key is free."""


class Put(Operation[bool], frozen=True):
    """Store a value, whatever the key holds. Answer: whether it was stored."""

    value: bytes
    overwrite: bool = True
    """False: store it only where the key is free."""
    ttl_s: float | None = None
    """The key becomes free by itself after so many seconds; None: never, even if what it held before would have."""

    def __post_init__(self) -> None:
        _check_ttl(self.ttl_s)


class Delete(Operation[bool], frozen=True):
    """Free a key, whatever it holds. Answer: whether it held something."""


class Keys(Operation[list[str]], frozen=True):
    """The keys that begin with the text ``key``, whatever they hold, sorted by code points."""


class Claim(Operation[bool], frozen=True):
    """Compare and set in one step: ``new`` takes the place of ``old``. Answer: whether it did."""

    old: bytes | None
    """None: the key has to be free."""
    new: bytes | None
    """None: the key becomes free."""
    ttl_s: float | None = None
    """As for ``Put``."""

    def __post_init__(self) -> None:
        _check_ttl(self.ttl_s)


class Commit(Operation[list[str]], frozen=True):
    """Write several keys in one step, if ``key`` holds ``held``, and each key of ``claims`` what its claim expects.

    Answer: the keys that hold something else, and then nothing was written; empty: it was done. No key is named twice.
    """

    held: bytes
    claims: tuple[Claim, ...] = ()
    writes: tuple[Put | Delete, ...] = ()
    """Whatever those keys hold. A ``Put`` overwrites."""

    @property
    def changed(self) -> list[str]:
        """The keys that it writes."""
        return [each.key for each in (*self.claims, *self.writes)]


class Incr(Operation[int], frozen=True):
    """Add to the counter at ``key``, which begins at 0. Answer: what it is now.

    A counter is a value, its decimal text, and keeps the time that it has left.
    """

    by: int = 1


def counted(value: bytes | None, op: Incr) -> int:
    """The counter after ``op``, as each store counts: ``value`` has no spaces and no leading zeros; None is 0.

    Raises:
        ControlKindError: the value is no counter, or would be one of too many bits.
    """
    try:
        count = int(value or b"0")
    except ValueError:
        count = 0
    if value is not None and (b"%d" % count != value or not _is_counter(count)):
        raise ControlKindError("Incr", op.key, "the key holds a value that is no counter")
    if not _is_counter(count + op.by):
        raise ControlKindError("Incr", op.key, f"the counter would leave {COUNTER_BITS} bits")
    return count + op.by


def _is_counter(count: int) -> bool:
    return -(1 << COUNTER_BITS - 1) <= count < 1 << COUNTER_BITS - 1


class Ttl(Operation["float | None"], frozen=True):
    """The seconds that what is at ``key`` has left: ``inf`` if it stays for good, None where the key is free."""


class Expire(Operation[bool], frozen=True):
    """Give what is at ``key`` so many seconds from now; None: it stays. Answer: whether the key holds something."""

    ttl_s: float | None

    def __post_init__(self) -> None:
        _check_ttl(self.ttl_s)


class Append(Operation[int], frozen=True):
    """Append to the list at ``key``; beyond ``max_items`` the oldest are dropped. Answer: how many it has now."""

    value: bytes
    max_items: int = 1000

    def __post_init__(self) -> None:
        _check_count(self.max_items)


class Items(Operation[list[bytes]], frozen=True):
    """The list at ``key``, oldest first; empty where the key is free."""


class StreamAppend(Operation[str], frozen=True):
    """Append to the stream at ``key``. Answer: the id of the entry, a text that only the store understands.

    A stream keeps at least its newest ``max_items`` entries, and drops older ones when it likes to.
    """

    value: bytes
    max_items: int = 10_000

    def __post_init__(self) -> None:
        _check_count(self.max_items)


class StreamPart(Struct, frozen=True):
    """What a reader of a stream is told."""

    entries: list[tuple[str, bytes]]
    """(id, value), oldest first."""
    newest: str
    """The id of the newest entry that there ever was; empty where there was none."""
    gap: bool
    """Entries after the reader's are gone, or may be: it has to look at the whole state again."""


class StreamRead(Operation[StreamPart], frozen=True):
    """What the stream at ``key`` has after the entry ``after``, which may be gone itself; does not wait for more."""

    after: str = ""
    """An id that this stream gave; empty: from the oldest entry on."""
    max_items: int = 1000

    def __post_init__(self) -> None:
        _check_count(self.max_items)


def _check_ttl(ttl_s: float | None) -> None:
    if ttl_s is not None and not ttl_s > 0:
        raise ValueError(f"ttl_s is a number of seconds above 0, not {ttl_s!r}")


def _check_count(max_items: int) -> None:
    if max_items < 1:
        raise ValueError(f"max_items is at least 1, not {max_items!r}")
