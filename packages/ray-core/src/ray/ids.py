"""Identifiers: fixed-width byte strings that name where they come from.

Each incarnation of a node has a number, of 4 bytes. A process id is that number and a number of 4 bytes that the node
manager gives the process. A task id is the id of the process that made it and a counter of 8 bytes. An object id is a
task id and a 4-byte return index. ``put`` and the creation of actors take task ids of their own, so all three share one
space; the counter's first byte is zero, but for a flag in the ids of actors. A lease id is the node's number and a
counter of 8 bytes. All numbers are big-endian.

So the owner of an object is the process whose id it begins with, and "this node is dead" is a prefix.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

TASK_ID_BYTES = 16
OBJECT_ID_BYTES = 20
PROCESS_ID_BYTES = 8
NODE_NUMBER_BYTES = 4
#: In the first byte of the counter: the director keeps the actor, if there are several nodes.
_DIRECTED = 1
NIL_OBJECT_ID = b"\xff" * OBJECT_ID_BYTES
#: The last edition of an object; see ``stored_id``.
MAX_EDITION = 255
FIRST_RETURN = b"\x00\x00\x00\x00"
_NUMBERS = 1 << 32


def embedded_node() -> bytes:
    """A number for the node of a session that has just one.

    Random, from the upper half of the numbers: those of clusters are counted up from the lower half.
    """
    return node_bytes(int.from_bytes(os.urandom(NODE_NUMBER_BYTES), "big") | _NUMBERS >> 1)


def node_bytes(number: int) -> bytes:
    """The number of a node as ids begin with it."""
    return number.to_bytes(NODE_NUMBER_BYTES, "big")


def node_of(id: bytes) -> bytes:
    """The number of the node that a process, task, object, actor or lease is of."""
    return id[:NODE_NUMBER_BYTES]


def node_title(id: bytes, name: str = "", host: str = "") -> str:
    """How messages name the node that a process, task, object, actor or lease is of: by all that users know of it."""
    node_id = node_of(id).hex()
    address = f"at {host}, " if host else ""
    return f"{name} ({address}NodeID {node_id})" if name else node_id


def node_number(id: bytes) -> int:
    """The same as a number."""
    return int.from_bytes(id[:NODE_NUMBER_BYTES], "big")


def process_of(id: bytes) -> bytes:
    """The id of the process that has made this task or actor, or owns this object."""
    return id[:PROCESS_ID_BYTES]


def node_manager_of(node: bytes) -> bytes:
    """The process id of the node manager: its number is 0."""
    return node + bytes(PROCESS_ID_BYTES - NODE_NUMBER_BYTES)


class ProcessIds:
    """Gives the processes of one node their ids, none of them twice.

    The numbers start anywhere: what is left of another incarnation that by chance had this number of a node means
    nobody here.
    """

    def __init__(self, node: bytes, first: int | None = None) -> None:
        """Make one.

        Args:
            node: the node's number.
            first: the first process's number; random by default.
        """
        self._node = node
        #: Of 1 to ``_NUMBERS - 1``, counted from 0.
        self._next = (int.from_bytes(os.urandom(4), "big") if first is None else first - 1) % (_NUMBERS - 1)
        self._left = _NUMBERS - 1

    def give(self) -> bytes:
        """The next one.

        Raises:
            OverflowError: all are given.
        """
        if not self._left:
            raise OverflowError("this node has had as many processes as there are numbers for them")
        self._left -= 1
        number = self._next + 1
        self._next = number % (_NUMBERS - 1)
        return self._node + number.to_bytes(PROCESS_ID_BYTES - NODE_NUMBER_BYTES, "big")


def make_lease_ids(node: bytes) -> Callable[[], bytes]:
    """Return a function that yields a new lease id of the node at each call."""
    count = itertools.count(1).__next__
    return lambda: node + count().to_bytes(8, "big")


def make_task_ids(process_id: bytes | None = None) -> Callable[[], bytes]:
    """Return a function that yields a new task id at each call; safe from any thread."""
    prefix = process_id or os.urandom(PROCESS_ID_BYTES)
    count = itertools.count(1).__next__

    def next_task_id() -> bytes:
        return prefix + count().to_bytes(8, "big")

    return next_task_id


def directed(actor_id: bytes) -> bytes:
    """The id of an actor that the director of a cluster keeps: one with a name, or one that outlives its creator."""
    return actor_id[:PROCESS_ID_BYTES] + bytes((_DIRECTED,)) + actor_id[PROCESS_ID_BYTES + 1 :]


def is_directed(actor_id: bytes) -> bool:
    """Whether the director of a cluster keeps the actor; else the node manager of its creator's node does."""
    return actor_id[PROCESS_ID_BYTES : PROCESS_ID_BYTES + 1] == bytes((_DIRECTED,))


def object_id(task_id: bytes, index: int = 0) -> bytes:
    """The id of a task's return number ``index``."""
    return task_id + index.to_bytes(4, "big")


def stored_id(object_id: bytes, edition: int) -> bytes:
    """The key under which a store has an edition of an object: its id, with the edition in a byte that is zero there.

    Edition 0 is what its owner's node has made. Another node stores a result under a key of its own for each attempt:
    what was made twice is never taken for the same, and nobody finds it who has not been told of it.
    """
    if not edition:
        return object_id
    return object_id[:PROCESS_ID_BYTES] + bytes((edition,)) + object_id[PROCESS_ID_BYTES + 1 :]


def object_of(key: bytes) -> bytes:
    """The object that a store has under a key."""
    return key[:PROCESS_ID_BYTES] + b"\0" + key[PROCESS_ID_BYTES + 1 :]


def edition_of(attempt: int) -> int:
    """The edition of what that attempt of a task makes on another node than its owner's."""
    return 1 + attempt % MAX_EDITION


def task_of(object_id: bytes) -> bytes:
    """The id of the task (or put) that makes this object."""
    return object_id[:TASK_ID_BYTES]


def random_id(nbytes: int = TASK_ID_BYTES) -> bytes:
    """``nbytes`` of operating-system randomness."""
    return os.urandom(nbytes)
