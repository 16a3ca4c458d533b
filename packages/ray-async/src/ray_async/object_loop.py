"""What ``get`` and ``wait`` know of the event loop over objects."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any

import ray
from ray_async.object_future import PlasmaObjectFuture


class ObjectEventLoop(asyncio.AbstractEventLoop):
    """A loop with futures for objects. Not a protocol, as each wait for a ref asks whether the loop is one."""

    @abstractmethod
    def object_future(self, ref: ray.ObjectRef[Any]) -> PlasmaObjectFuture:
        """The future of this loop for an object, counted once more; ``dec_refcount`` gives it back."""
