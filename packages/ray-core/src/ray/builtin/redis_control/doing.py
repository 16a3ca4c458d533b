"""Does operations over a link, each once, also where the connection is lost in the middle of one.

Each change writes, in the same step, its number to a key of the handle: its mark. So a look at the mark tells whether a
change was made whose answer was lost. Each change also watches the mark, and the look writes to it. So what is still on
its way over a connection that was given up comes to nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray.abc.control_operations import Append, Claim, Commit, Expire, Keys, Operation, Put, StreamAppend
from ray.builtin.redis_control.failures import RefusedError, refusal_of
from ray.builtin.redis_control.index import Index
from ray.builtin.redis_control.keys import KeySpace, text
from ray.builtin.redis_control.link import Link
from ray.builtin.redis_control.steps import TOKEN, Answer, Step, Steps, TooSoonError, Write, WrongKindError
from ray.clock import sleep
from ray.exceptions import ControlKindError, ControlStoreError, ControlUnavailableError

#: How long a mark is kept: longer than anybody waits for one operation.
_MARK_MS = 3_600_000
_PAGE = 500
_KINDS = {b"string": "a value", b"list": "a list", b"stream": "a stream"}


@dataclass
class Doubt:
    """A change that may have been made."""

    number: int
    op: Operation[Any]
    known: Any
    is_made: bool = False


class Doing:
    """Of one handle. One thread uses it."""

    def __init__(self, keys: KeySpace, where: str, owed: Callable[[int], bool]) -> None:
        """Begin.

        Args:
            keys: of the session.
            where: the server, for messages.
            owed: whether somebody still waits for the operation of a number.
        """
        self._keys, self._where, self._owed = keys, where, owed
        self._name = secrets.token_hex(8)
        self._mark = keys.mark(self._name)
        self._steps = Steps(keys)
        self._index = Index(keys)
        self._doubt: Doubt | None = None

    def do(self, link: Link, number: int, op: Operation[Any]) -> Any:
        """The answer, which may be an error.

        Raises:
            LinkLostError: there is none; call it again with another link, for this operation or the next one.
        """
        from redis.exceptions import ResponseError

        try:
            doubt = self._doubt
            if doubt is not None:
                made = doubt.is_made = doubt.is_made or self._was_made(link, doubt.number)
                answer = self._recalled(link, doubt) if made and doubt.number == number else None
                self._doubt = None
                if made and doubt.number == number:
                    return answer
            return self._begin(link, number, op)
        except RefusedError as error:
            return error.answer(op)
        except ResponseError as error:
            return (refusal_of(error, self._where) or RefusedError(str(error))).answer(op)
        except WrongKindError:
            held = _KINDS.get(link.call(("TYPE", self._keys.key(op.key)))[0], "something else")
            return ControlKindError(type(op).__name__, op.key, f"the key holds {held}, not {_wanted(op)}")
        except ControlStoreError as error:
            return error.with_traceback(None)

    def _begin(self, link: Link, number: int, op: Operation[Any]) -> Any:
        self._index.sweep(link)
        if isinstance(op, Keys):
            return self._index.names(link, op.key)
        step = self._steps.of(op, f"{self._name}.{number}".encode())
        if step is None:
            return ControlStoreError(type(op).__name__, op.key, "this store does not know the operation")
        parts = (*op.claims, *op.writes) if isinstance(op, Commit) else (op,)
        if any(isinstance(each, (Put, Claim, Expire)) and each.ttl_s is not None for each in parts):
            self._index.expect_end()
        return self._change(link, number, op, step) if step.writes else self._look(link, step)

    def _look(self, link: Link, step: Step) -> Any:
        while True:
            # More than one look is to see one state.
            seen = link.call(*step.looks) if len(step.looks) == 1 else link.transact(step.looks) or []
            self._check(seen)
            outcome = step.decide(seen)
            if isinstance(outcome, Answer):
                return outcome.value
            if isinstance(outcome, Write):
                raise AssertionError("a step that looks does not write")
            step = outcome

    def _change(self, link: Link, number: int, op: Operation[Any], step: Step) -> Any:
        watched = self._steps.watched(op) if step.watches else []
        while self._owed(number):
            watching, *seen = link.call(("WATCH", self._mark, *watched), *step.looks)
            self._check([watching, *seen])
            try:
                outcome = step.decide(seen)
            except TooSoonError:
                sleep(0.001)
                continue
            except (ControlStoreError, WrongKindError):
                link.call(("UNWATCH",))
                raise
            if isinstance(outcome, Answer):
                link.call(("UNWATCH",))
                return outcome.value
            assert isinstance(outcome, Write)
            self._doubt = Doubt(number, op, outcome.known)
            results = self._write(link, number, op, outcome)
            self._doubt = None
            if results is not None:
                return outcome.answer(results)
        return None

    def _write(self, link: Link, number: int, op: Operation[Any], write: Write) -> list[Any] | None:
        from redis.exceptions import OutOfMemoryError, ResponseError

        commands = list(write.commands)
        if write.hinted:
            keys = op.changed if isinstance(op, Commit) else [op.key]
            commands += (("PUBLISH", self._keys.hints, text(key)) for key in keys)
        try:
            return link.transact([*commands, ("SET", self._mark, number, "PX", _MARK_MS)])
        except OutOfMemoryError:
            self._doubt = None
            if not write.takes_no_memory:
                raise
        except ResponseError:
            self._doubt = None
            raise
        # A server that is full takes these one by one. They may be done twice.
        return link.call(*commands)

    def _check(self, seen: list[Any]) -> None:
        for answer in seen:
            if isinstance(answer, Exception) and not str(answer).startswith(("WRONGTYPE", "no such key")):
                raise refusal_of(answer, self._where) or RefusedError(str(answer))

    # --- after a loss -------------------------------------------------------------------------------------------------

    def _was_made(self, link: Link, number: int) -> bool:
        """Whether the change was made. If not, it will not be: what is under way has watched the mark."""
        from redis.exceptions import OutOfMemoryError

        made = b"%d" % number
        while True:
            watching, mark = link.call(("WATCH", self._mark), ("GET", self._mark))
            self._check([watching, mark])
            if mark == made:
                link.call(("UNWATCH",))
                return True
            try:
                if link.transact([("SET", self._mark, "-", "PX", _MARK_MS)]) is not None:
                    return False
            except OutOfMemoryError:
                mark = link.call(("GETDEL", self._mark))[0]
                self._check([mark])
                return bool(mark == made)

    def _recalled(self, link: Link, doubt: Doubt) -> Any:
        """The answer of a change that was made, and whose answer was lost."""
        op, key = doubt.op, self._keys.key(doubt.op.key)
        if isinstance(op, Append):
            length = link.call(("LLEN", key))[0]
            if isinstance(length, int):
                return max(1, min(length, op.max_items))
        elif isinstance(op, StreamAppend):
            found = self._entry(link, key, f"{self._name}.{doubt.number}".encode())
            if found:
                return found
        elif doubt.known is not None:
            return doubt.known
        reason = f"it was done, but its answer was lost with the connection to {self._where}"
        return ControlUnavailableError(type(op).__name__, op.key, reason)

    def _entry(self, link: Link, key: bytes, token: bytes) -> str:
        """The id of the entry with that token, the newest first; empty if it is gone."""
        last: bytes | str = "+"
        while True:
            page = link.call(("XREVRANGE", key, last, "-", "COUNT", _PAGE))[0]
            for id, entry in page if isinstance(page, list) else ():
                if TOKEN in entry and entry[entry.index(TOKEN) + 1] == token:
                    return str(id.decode())
            if not isinstance(page, list) or len(page) < _PAGE:
                return ""
            last = b"(" + page[-1][0]


def _wanted(op: Operation[Any]) -> str:
    name = type(op).__name__
    return "a stream" if name.startswith("Stream") else "a list" if name in ("Append", "Items") else "a value"
