"""The cluster that somebody means."""

from __future__ import annotations

import re

import msgspec

from ray.runtime.cluster.places import Place

#: Of a cluster: it is a part of keys in Redis and of names of files.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
#: What is no name, as it means something else where an address is given.
ADDRESS_WORDS = frozenset({"auto", "local", "localhost"})
#: Of a cluster that was given no other.
DEFAULT_NAME = "default"
#: How long a program waits for an answer.
CONNECT_S = 5.0


def may_be_name(text: str) -> bool:
    """Whether an address without a port can be the name of a cluster."""
    return bool(NAME.fullmatch(text)) and text not in ADDRESS_WORDS and not text.replace(".", "").isdigit()


class WantedCluster(msgspec.Struct, frozen=True):
    """The cluster that the user has named."""

    source: str
    """The argument or environment variable that gave it, as the user wrote it."""
    place: Place | None = None
    """Its control server; None: by its name."""
    name: str = ""
    """Empty, and no place: the only one of which there is a key file."""

    def __str__(self) -> str:
        return str(self.place) if self.place else self.name or "auto"
