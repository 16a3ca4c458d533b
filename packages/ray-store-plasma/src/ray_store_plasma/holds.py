"""What a client holds of the arena: views that keep their memory, and the bookkeeping of ``get`` and ``release``.

A view of an object ends in an exporter, a ctypes array over the object's memory. It lives exactly as long as any view
of it, any slice of one and any numpy array on one; when it goes the server is told. Until then ``get`` of the same
object asks nobody: the head in front of the object says whether the object still exists.
"""

from __future__ import annotations

import weakref
from typing import Any

from ray_store_plasma.link import Link
from ray_store_plasma.mapping import Mapping, array_type
from ray_store_plasma.messages import HEAD_BYTES, Found


class Held:
    """One object that the server counts as held by this client; made for a first ``get``, which takes ``view``."""

    __slots__ = ("exporter", "mark", "nbytes", "object_id", "owed", "serial", "unreleased", "view")

    def __init__(self, object_id: bytes, found: Found, link: Link, mapping: Mapping) -> None:
        self.object_id = object_id
        self.serial = found.serial
        self.nbytes = found.nbytes
        self.mark = found.offset - HEAD_BYTES
        #: Times that ``get`` has returned it and ``release`` has not been called.
        self.unreleased = 1
        #: Times that the server has counted a hold; changed only while the exporter is alive.
        self.owed = 1
        step = 1 << max(6, self.nbytes.bit_length() - 5)
        exporter: Any = array_type(max(1, -(-self.nbytes // step)) * step).from_address(mapping.address + found.offset)
        exporter.end = _End(self, link, mapping)
        self.exporter = weakref.ref(exporter)
        #: While ``unreleased`` is above 0.
        self.view: memoryview | None = _view(exporter, self.nbytes)

    def show(self) -> memoryview | None:
        """Count one more hold and return a view of its own; None if the last view has gone."""
        view = self.view
        if view is None:
            exporter = self.exporter()
            if exporter is None:
                return None
            view = _view(exporter, self.nbytes)
        self.unreleased += 1
        self.view = view
        return view[:]

    @property
    def is_seen(self) -> bool:
        """Whether there are views of it."""
        return self.exporter() is not None


class _End:
    """Goes with the exporter, tells the server, and keeps the mapping and the connection until then."""

    __slots__ = ("held", "link", "mapping")

    def __init__(self, held: Held, link: Link, mapping: Mapping) -> None:
        self.held = held
        self.link = link
        self.mapping = mapping
        link.seen.add(held)

    def __del__(self) -> None:
        self.link.seen.discard(self.held)
        self.link.release(self.held.serial, self.held.owed)


def _view(exporter: Any, nbytes: int) -> memoryview:
    return memoryview(exporter).cast("B")[:nbytes].toreadonly()
