"""What each operation is in commands of the server. Nothing here waits: ``doing`` sends them.

An operation looks first, and decides by what it saw: the answer, or what to write. Meanwhile the key is watched, so
that nothing is written where it has changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from msgspec import structs

from ray.abc.control_operations import (
    Append,
    Claim,
    Commit,
    Delete,
    Expire,
    Get,
    Incr,
    Items,
    Operation,
    Put,
    StreamAppend,
    StreamPart,
    StreamRead,
    Ttl,
    counted,
)
from ray.builtin.redis_control.keys import KeySpace, text
from ray.builtin.redis_control.link import Command
from ray.exceptions import ControlStoreError

#: The two fields of an entry of a stream.
VALUE = b"v"
TOKEN = b"t"


class Answer(NamedTuple):
    """Nothing is to be written."""

    value: Any


class Write(NamedTuple):
    """What is to be written, in one step."""

    commands: Sequence[Command]
    answer: Callable[[list[Any]], Any]
    """From what the server answers to them."""
    known: Any = None
    """The answer, where it is known before."""
    hinted: bool = True
    """Whether its keys are told to those who want hints."""
    takes_no_memory: bool = False
    """Whether it is to be done by a server that is full, too, though not in one step."""


class Step(NamedTuple):
    """One operation."""

    looks: Sequence[Command]
    decide: Callable[[list[Any]], Answer | Write | Step]
    """A further step: look again."""
    writes: bool = False
    watches: bool = True
    """Whether what is written depends on what was seen."""


Outcome: TypeAlias = "Answer | Write | Step"


class TooSoonError(Exception):
    """The last entry of a stream that is to be deleted is of this very moment, and its id could come again."""


Make: TypeAlias = "Callable[[Any, bytes, bytes], Step]"


class Steps:
    """The operations on the keys of one session."""

    def __init__(self, keys: KeySpace) -> None:
        self._keys = keys
        self._makers: dict[type[Operation[Any]], Make] = {
            Get: self._get,
            Put: self._put,
            Delete: self._delete,
            Claim: self._claim,
            Commit: self._commit,
            Incr: self._incr,
            Ttl: self._ttl,
            Expire: self._expire,
            Append: self._append,
            Items: self._items,
            StreamAppend: self._stream_append,
            StreamRead: self._stream_read,
        }

    def of(self, op: Operation[Any], token: bytes) -> Step | None:
        """The step of ``op``, None if it is not known; ``token`` tells an entry of a stream from all others."""
        make = self._makers.get(type(op))
        return None if make is None else make(op, self._keys.key(op.key), token)

    def watched(self, op: Operation[Any]) -> list[bytes]:
        """The keys on which it depends what ``op`` does."""
        keys = [op.key, *(claim.key for claim in op.claims)] if isinstance(op, Commit) else [op.key]
        return [self._keys.key(key) for key in keys]

    def _indexed(self, op: Operation[Any]) -> Command:
        return ("ZADD", self._keys.index, 0, text(op.key))

    def _dropped(self, op: Operation[Any]) -> Command:
        return ("ZREM", self._keys.index, text(op.key))

    # --- values -----------------------------------------------------------------------------------------------------

    def _get(self, op: Get, key: bytes, token: bytes) -> Step:
        return Step([("GET", key)], lambda seen: Answer(_value(seen[0])))

    def _put(self, op: Put, key: bytes, token: bytes) -> Step:
        if op.overwrite:
            commands = [("SET", key, bytes(op.value), *_until(op.ttl_s)), self._indexed(op)]
            return Step([], lambda seen: Write(commands, _true, True), writes=True, watches=False)
        spared = [("SET", key, bytes(op.value), "NX", *_until(op.ttl_s)), self._indexed(op)]
        return Step(
            [("EXISTS", key)], lambda seen: Answer(False) if seen[0] else Write(spared, _true, True), writes=True
        )

    def _delete(self, op: Delete, key: bytes, token: bytes) -> Step:
        def decide(seen: list[Any]) -> Answer | Write:
            kind, stream, (seconds, micros) = seen
            if kind == b"none":
                return Answer(False)
            if kind == b"stream":
                newest = _split(_facts(stream)[b"last-generated-id"].decode())
                if newest[0] >= int(seconds) * 1000 + int(micros) // 1000:
                    raise TooSoonError
            return Write([("DEL", key), self._dropped(op)], _true, True, takes_no_memory=True)

        return Step([("TYPE", key), ("XINFO", "STREAM", key), ("TIME",)], decide, writes=True)

    def _claim(self, op: Claim, key: bytes, token: bytes) -> Step:
        def decide(seen: list[Any]) -> Answer | Write:
            if _value(seen[0]) != op.old:
                return Answer(False)
            if op.new is None:
                return Answer(True) if op.old is None else Write([("DEL", key), self._dropped(op)], _true, True)
            if op.new == op.old:  # works where the server is full, too: a lease is to be kept
                return Write([_renewal(key, op.ttl_s)], _true, True, hinted=False, takes_no_memory=True)
            return Write([("SET", key, bytes(op.new), *_until(op.ttl_s)), self._indexed(op)], _true, True)

        return Step([("GET", key)], decide, writes=True)

    def _commit(self, op: Commit, key: bytes, token: bytes) -> Step:
        wanted = {op.key: op.held, **{claim.key: claim.old for claim in op.claims}}

        def decide(seen: list[Any]) -> Answer | Write:
            other = [key for key, found in zip(wanted, seen, strict=True) if _value(found) != wanted[key]]
            if other:
                return Answer(other)
            commands: list[Command] = []
            for each in (*op.claims, *op.writes):
                value = each.new if isinstance(each, Claim) else each.value if isinstance(each, Put) else None
                if value is None:
                    commands += ("DEL", self._keys.key(each.key)), self._dropped(each)
                else:
                    ttl_s = None if isinstance(each, Delete) else each.ttl_s
                    commands += ("SET", self._keys.key(each.key), bytes(value), *_until(ttl_s)), self._indexed(each)
            return Write(commands, _none, [])

        return Step([("GET", self._keys.key(each)) for each in wanted], decide, writes=True)

    def _incr(self, op: Incr, key: bytes, token: bytes) -> Step:
        def decide(seen: list[Any]) -> Answer | Write:
            count = counted(_value(seen[0]), op)
            return Write([("SET", key, b"%d" % count, "KEEPTTL"), self._indexed(op)], lambda results: count, count)

        return Step([("GET", key)], decide, writes=True)

    def _ttl(self, op: Ttl, key: bytes, token: bytes) -> Step:
        def decide(seen: list[Any]) -> Answer:
            left = seen[0]
            return Answer(None if left == -2 else math.inf if left == -1 else left / 1000)

        return Step([("PTTL", key)], decide)

    def _expire(self, op: Expire, key: bytes, token: bytes) -> Step:
        def decide(seen: list[Any]) -> Answer | Write:
            if not seen[0]:
                return Answer(False)
            return Write([_renewal(key, op.ttl_s)], _true, True, hinted=False, takes_no_memory=True)

        return Step([("EXISTS", key)], decide, writes=True)

    # --- lists and streams ------------------------------------------------------------------------------------------

    def _append(self, op: Append, key: bytes, token: bytes) -> Step:
        commands = [("RPUSH", key, bytes(op.value)), ("LTRIM", key, -op.max_items, -1), self._indexed(op)]
        return Step(
            [],
            lambda seen: Write(commands, lambda results: min(_result(results[0]), op.max_items)),
            writes=True,
            watches=False,
        )

    def _items(self, op: Items, key: bytes, token: bytes) -> Step:
        return Step([("LRANGE", key, 0, -1)], lambda seen: Answer(list(_result(seen[0]))))

    def _stream_append(self, op: StreamAppend, key: bytes, token: bytes) -> Step:
        entry = ("XADD", key, "MAXLEN", "~", op.max_items, "*", VALUE, bytes(op.value), TOKEN, token)
        return Step(
            [],
            lambda seen: Write([entry, self._indexed(op)], lambda results: _result(results[0]).decode()),
            writes=True,
            watches=False,
        )

    def _stream_read(self, op: StreamRead, key: bytes, token: bytes) -> Step:
        after = _id(op)
        read: Command = ("XRANGE", key, b"(%d-%d" % after if op.after else "-", "+", "COUNT", op.max_items)

        def decide(seen: list[Any]) -> Answer | Step:
            if _is_missing(seen[0]):
                return Answer(StreamPart([], "", bool(op.after)))
            facts = _facts(_result(seen[0]))
            newest = facts[b"last-generated-id"].decode()
            if op.after and after > _split(newest):
                # What the reader has seen and this stream never had was in one that is gone.
                begin = self._stream_read(structs.replace(op, after=""), key, token)
                return begin._replace(decide=lambda seen: _with_gap(begin.decide(seen)))
            oldest = facts[b"first-entry"]
            gap = bool(op.after) and after < _split(oldest[0].decode() if oldest else newest)
            entries = [(id.decode(), _fields(entry)[VALUE]) for id, entry in _result(seen[1])]
            return Answer(StreamPart(entries, newest, gap))

        return Step([("XINFO", "STREAM", key), read], decide)


# --- what was asked -----------------------------------------------------------------------------------------------


def _until(ttl_s: float | None) -> Command:
    return () if ttl_s is None else ("PX", _milliseconds(ttl_s))


def _renewal(key: bytes, ttl_s: float | None) -> Command:
    return ("PERSIST", key) if ttl_s is None else ("PEXPIRE", key, _milliseconds(ttl_s))


def _milliseconds(ttl_s: float) -> int:
    return max(1, math.ceil(min(ttl_s, 1e12) * 1000))


def _id(op: StreamRead) -> tuple[int, int]:
    try:
        return _split(op.after or "0-0")
    except ValueError:
        raise ControlStoreError("StreamRead", op.key, f"{op.after!r} is no id of a stream") from None


def _split(id: str) -> tuple[int, int]:
    first, hyphen, second = id.partition("-")
    if not hyphen:
        raise ValueError(id)
    return int(first), int(second)


# --- what was answered --------------------------------------------------------------------------------------------


class WrongKindError(Exception):
    """The key holds something else."""


def _true(results: list[Any]) -> bool:
    for result in results:
        if isinstance(result, Exception):
            raise result
    return True


def _none(results: list[Any]) -> list[str]:
    _true(results)
    return []


def _result(result: Any) -> Any:
    """One answer of the server.

    Raises:
        WrongKindError: the key holds something else.
    """
    if isinstance(result, Exception):
        if str(result).startswith("WRONGTYPE"):
            raise WrongKindError
        raise result
    return result


def _value(result: Any) -> bytes | None:
    value: bytes | None = _result(result)
    return value


def _is_missing(result: Any) -> bool:
    return isinstance(result, Exception) and "no such key" in str(result)


def _with_gap(outcome: Outcome) -> Outcome:
    return Answer(structs.replace(outcome.value, gap=True)) if isinstance(outcome, Answer) else outcome


def _facts(pairs: Sequence[Any]) -> dict[bytes, Any]:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def _fields(entry: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(entry[::2], entry[1::2], strict=True))
