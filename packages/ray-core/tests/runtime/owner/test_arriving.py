"""Objects that are read back from a disk for callers that do not wait for it."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest

from ray.exceptions import ObjectLostError
from ray.runtime.owner.arriving import OnDisk, Wanted
from ray.runtime.refs.session import Listener

OBJECT = b"o" * 16


class Listening(Listener):
    """Is told, and holds nothing."""

    def __init__(self) -> None:
        self.times = 0

    def told(self) -> None:
        self.times += 1


class Lost:
    """A reader that finds nothing."""

    def put(self, wanted: Wanted) -> None:
        wanted.read(self.read)

    def read(self, object_id: bytes) -> memoryview:
        raise ObjectLostError(object_id, "it is not in the node's store any more")


class Held:
    """Something of the program that asks, such as the last handle of an actor."""


def wait() -> weakref.ref[Listening]:
    listener = Listening()
    OnDisk(OBJECT, Lost()).subscribe(listener)
    assert listener.times == 1
    return weakref.ref(listener)


def ask() -> weakref.ref[Held]:
    held = Held()
    wanted = OnDisk(OBJECT, Lost())
    wanted.subscribe(Listening())
    with pytest.raises(ObjectLostError, match="not in the node's store"):
        wanted.value()
    return weakref.ref(held)


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("use", [wait, ask])
def test_what_is_lost_keeps_nothing_of_those_who_asked(use: Callable[[], weakref.ref[object]]) -> None:
    """The error would keep the frames that it went through, and these have what keeps the error."""
    assert use()() is None
