"""The names of all keys of a session: a sorted set, so that nobody looks at all keys of the server.

Each change that makes or frees a key keeps it, in the same step. A key whose time is over leaves its name, which is
taken out when somebody lists it, or by a look at a part of the names now and then.
"""

from __future__ import annotations

from ray.builtin.redis_control.keys import KeySpace, text, untext
from ray.builtin.redis_control.link import Link

#: After so many keys with a time, a part of the names is looked at: more of them, so that the index does not grow.
_SWEEP_AFTER = 256
_SWEPT = 512
_PAGE = 1000


class Index:
    """As one handle uses it."""

    def __init__(self, keys: KeySpace) -> None:
        self._keys = keys
        #: Keys with a time since the last sweep.
        self._timed = 0
        #: Names up to here were looked at.
        self._swept = b""

    def expect_end(self) -> None:
        """A key is about to get a time."""
        self._timed += 1

    def names(self, link: Link, prefix: str) -> list[str]:
        """The keys that begin with ``prefix``, in order.

        Raises:
            LinkLostError: there is no answer.
            ResponseError: the server refuses.
        """
        start = text(prefix)
        low, high = (b"[" + start, b"(" + start + b"\xff") if start else (b"-", b"+")
        found = link.call(("ZRANGE", self._keys.index, low, high, "BYLEX"))[0]
        if isinstance(found, Exception):
            raise found
        names: list[bytes] = []
        for begin in range(0, len(found), _PAGE):
            page = found[begin : begin + _PAGE]
            gone = self._drop_gone(link, page)
            names += [name for name in page if name not in gone]
        return [untext(name) for name in names]

    def sweep(self, link: Link) -> None:
        """Look at a part of the names, if it is time.

        Raises:
            LinkLostError: there is no answer.
        """
        if self._timed < _SWEEP_AFTER:
            return
        low = b"(" + self._swept if self._swept else b"-"
        found = link.call(("ZRANGE", self._keys.index, low, "+", "BYLEX", "LIMIT", 0, _SWEPT))[0]
        if not isinstance(found, Exception):
            self._drop_gone(link, found)
            self._swept = found[-1] if len(found) == _SWEPT else b""
        self._timed = 0

    def _drop_gone(self, link: Link, names: list[bytes]) -> set[bytes]:
        """Take names of keys that are free out of the index; returns those."""
        gone = self._gone(link, names)
        if gone:
            link.call(("WATCH", *(self._key(name) for name in gone)))
            gone = self._gone(link, gone)  # seen while they are watched
            if gone:
                link.transact([("ZREM", self._keys.index, *gone)])
            else:
                link.call(("UNWATCH",))
        return set(gone)

    def _gone(self, link: Link, names: list[bytes]) -> list[bytes]:
        answers = link.call(*(("EXISTS", self._key(name)) for name in names)) if names else []
        return [name for name, answer in zip(names, answers, strict=True) if answer == 0]

    def _key(self, name: bytes) -> bytes:
        return self._keys.key("") + name
