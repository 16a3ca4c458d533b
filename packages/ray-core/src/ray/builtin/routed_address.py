"""Addresses of processes that others of their node, and of other nodes, reach in different ways.

``routed:7/unix:/run/…`` of a process that only its node reaches, ``routed:7/unix:/run/…|tcp://10.0.0.5:4123`` of one
that others reach as well: the number of the node in decimal, and the contacts, with ``%`` and ``|`` in them escaped.
"""

from __future__ import annotations

import re
from typing import Self

import msgspec

from ray.exceptions import RayConnectionError
from ray.protocol.handshake import MAX_ADDRESS_CHARS

_SCHEME = "routed:"
_FORM = re.compile(r"routed:([1-9][0-9]{0,9})/((?:[^|%\0]|%25|%7C)+)(?:\|((?:[^|%\0]|%25|%7C)+))?")
_MAX_NODE = (1 << 32) - 1
_SHOWN_CHARS = 200


class RoutedAddress(msgspec.Struct, frozen=True):
    """What an address says."""

    node: int
    """The number of the process's node."""
    near: str
    """The contact for processes of that node."""
    far: str = ""
    """The contact for those of others; empty where they cannot reach it."""

    @classmethod
    def parse(cls, address: str) -> Self:
        """Undo ``text``.

        Raises:
            RayConnectionError: it is no such address; the text names it.
        """
        found = _FORM.fullmatch(address) if len(address) <= MAX_ADDRESS_CHARS else None
        if found is None or int(found[1]) > _MAX_NODE:
            shown = address if len(address) <= _SHOWN_CHARS else f"{address[:_SHOWN_CHARS]}…"
            raise RayConnectionError(f"{shown!r} is not an address of transport='routed'")
        return cls(int(found[1]), _plain(found[2]), _plain(found[3] or ""))

    def text(self) -> str:
        """The address.

        Raises:
            OSError: the contacts are too long for one.
        """
        contacts = "|".join(_escaped(contact) for contact in (self.near, self.far) if contact)
        text = f"{_SCHEME}{self.node}/{contacts}"
        if len(text) > MAX_ADDRESS_CHARS:
            raise OSError(f"an address has more than {MAX_ADDRESS_CHARS} characters: {text[:_SHOWN_CHARS]}…")
        return text


def _escaped(contact: str) -> str:
    return contact.replace("%", "%25").replace("|", "%7C")


def _plain(text: str) -> str:
    return text.replace("%7C", "|").replace("%25", "%")
