"""What a node of a cluster has to know before it serves: the control store tells it, to a process of its own.

A handle of the store has threads, and may load a library that takes time and room. So the node manager has none before
it forks, and goes on meanwhile; many nodes never come to need one of their own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import msgspec

from ray.abc.control import ControlStore
from ray.exceptions import RayError, RaySystemError
from ray.messages.cluster import KeptDirector
from ray.runtime.cluster.registry import Meta, Registry
from ray.runtime.process.supervision import die_with_parent


class Enrolled(msgspec.Struct, frozen=True):
    """What the store has told."""

    node: bytes = b""
    """The number of the new node, as ids begin with it."""
    data_encryption: str = ""
    """Of the whole cluster."""
    director: KeptDirector | None = None
    """The node that lets others in; None: this one is to direct."""
    error: str = ""
    """Why there is nothing to tell."""


_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Enrolled).decode


def enrol(registry: Registry, meta: Meta, *, is_head: bool) -> Enrolled:
    """Give a node a number; the cluster is founded by its head, and found by others.

    Raises:
        RaySystemError: the node would not be understood by the others.
        RayConnectionError: there is no cluster, or another one.
    """
    if is_head:
        registry.found(meta)
        return Enrolled(registry.next_node(), meta.data_encryption)
    known = registry.meta()
    known.check(meta)
    return Enrolled(registry.next_node(), known.data_encryption, registry.director())


class Enrolment:
    """It is under way in a child of this process, which may have no threads yet."""

    def __init__(self, open_control: Callable[[], ControlStore], meta: Meta, *, is_head: bool) -> None:
        """Begin.

        Args:
            open_control: opens a handle of the control store.
            meta: what the node takes the cluster to be.
            is_head: it founds the cluster.
        """
        parent = os.getpid()
        self._reading, writing = os.pipe()
        self._pid = os.fork()
        if self._pid:
            os.close(writing)
            return
        told = Enrolled(error="it was interrupted")
        try:
            die_with_parent(parent)
            with contextlib.closing(open_control()) as control:
                told = enrol(Registry(control), meta, is_head=is_head)
        except BaseException as error:
            told = Enrolled(error=str(error) if isinstance(error, RayError) else f"{type(error).__name__}: {error}")
        finally:
            with contextlib.suppress(OSError), open(writing, "wb") as file:
                file.write(_encode(told))
            os._exit(0)

    def wait(self) -> Enrolled:
        """What the store has told.

        Raises:
            RaySystemError: there is nothing to tell.
        """
        with open(self._reading, "rb") as file:
            data = file.read()
        os.waitpid(self._pid, 0)
        told = _decode(data) if data else Enrolled(error="the process that asked the control store was killed")
        if told.error:
            raise RaySystemError(told.error)
        return told
