"""A future that stands for an object."""

from __future__ import annotations

import asyncio
from typing import Any

import ray


class PlasmaObjectFuture(asyncio.Future[Any]):
    """A future with the ref of its object, shared by waiters that count themselves in.

    The event loop's own have the ref as their result: they say that the object is ready, not what it is. Those of
    ``async_api.as_future`` have the value.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, object_id: ray.ObjectRef[Any]) -> None:
        super().__init__(loop=loop)
        self.object_id = object_id
        self.ref_count = 0

    @classmethod
    def create_nil(cls, loop: asyncio.AbstractEventLoop) -> PlasmaObjectFuture:
        """One whose object is not known yet; the code that learns it sets ``object_id``."""
        return cls(loop, ray.ObjectRef.nil())

    @property
    def is_nil(self) -> bool:
        """Whether the object is not known yet."""
        return self.object_id.is_nil()

    def inc_refcount(self) -> None:
        """One more waits."""
        self.ref_count += 1

    def dec_refcount(self) -> None:
        """One fewer waits; with the last one the future is cancelled, if it is not done."""
        self.ref_count -= 1
        if self.ref_count <= 0:
            self.cancel()

    def complete(self) -> None:
        """The object is ready or failed."""
        if not self.done():
            self.set_result(self.object_id)

    def __repr__(self) -> str:
        return f"{super().__repr__()}{{object_id={self.object_id.hex()}, ref_count={self.ref_count}}}"
