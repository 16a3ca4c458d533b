"""The names of keys in the server. The braces are a hash tag: all keys of a cluster are in one slot."""

from __future__ import annotations

#: Texts of Python that UTF-8 does not know come through, too.
_ERRORS = "surrogatepass"


class KeySpace:
    """The keys of one session of one cluster.

    What the seam calls ``key`` is ``ray:{name}:session:key``. What the store itself needs has a slash where those have
    their third colon.
    """

    def __init__(self, name: str, session: str) -> None:
        self.base = f"ray:{{{name}}}:{session}".encode()
        #: A sorted set of all keys of the session, each with the score 0: so they lie in the order of their bytes.
        self.index = self.base + b"/index"
        #: The channel on which changed keys are told.
        self.hints = self.base + b"/hints"

    @staticmethod
    def pattern(name: str) -> str:
        """What a user of the server may touch: the keys and channels of one cluster."""
        return f"ray:{{{name}}}:*"

    @staticmethod
    def current(name: str) -> bytes:
        """The key that names the session of a cluster."""
        return f"ray:{{{name}}}:current".encode()

    def key(self, key: str) -> bytes:
        """The name of ``key`` in the server."""
        return self.base + b":" + text(key)

    def mark(self, handle: str) -> bytes:
        """Where a handle notes the last change that it has made."""
        return self.base + b"/done/" + handle.encode()


def text(key: str) -> bytes:
    """``key`` as the index and the hints have it. The order of the bytes is that of the code points."""
    return key.encode("utf-8", _ERRORS)


def untext(data: bytes) -> str:
    """Undo ``text``."""
    return data.decode("utf-8", _ERRORS)
