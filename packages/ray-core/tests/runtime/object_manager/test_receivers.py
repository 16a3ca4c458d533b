"""Which nodes are sent which objects."""

from __future__ import annotations

import pytest

from ray.runtime.object_manager import receivers
from ray.runtime.object_manager.receivers import MOST, TREE_BYTES, Receivers

KEY = b"k" * 20
A, B, C, D = (bytes([0, 0, 0, number]) for number in range(1, 5))


@pytest.fixture
def made() -> Receivers:
    return Receivers()


def test_two_are_sent_an_object_and_others_are_named_these(made: Receivers) -> None:
    assert made.enter(KEY, A, TREE_BYTES) == (True, [])
    assert made.enter(KEY, B, TREE_BYTES) == (True, [A])
    assert made.enter(KEY, C, TREE_BYTES) == (False, [A, B])
    assert made.enter(KEY, D, TREE_BYTES) == (False, [B, A])
    assert made.enter(KEY, A, TREE_BYTES) == (True, [B])  # it goes on over another connection
    assert MOST == 2


def test_who_comes_back_is_sent_it_when_there_is_room(made: Receivers) -> None:
    for node in (A, B):
        made.enter(KEY, node, TREE_BYTES)
    assert not made.enter(KEY, C, TREE_BYTES)[0]
    assert not made.enter(KEY, C, TREE_BYTES)[0]
    made.leave(KEY, A)
    assert not made.enter(KEY, D, TREE_BYTES)[0], "it has not asked the others yet"
    assert made.enter(KEY, C, TREE_BYTES)[0]
    assert not made.enter(KEY, D, TREE_BYTES)[0]


def test_what_is_small_is_sent_to_all(made: Receivers) -> None:
    assert all(made.enter(KEY, node, TREE_BYTES - 1)[0] for node in (A, B, C, D))


def test_objects_are_apart_and_are_forgotten(made: Receivers, monkeypatch: pytest.MonkeyPatch) -> None:
    for node in (A, B):
        made.enter(KEY, node, TREE_BYTES)
    assert made.enter(b"o" * 20, C, TREE_BYTES) == (True, [])
    made.leave(b"o" * 20, C)
    made.forget(b"o" * 20)
    made.forget(KEY)  # it is still being sent
    assert made.enter(b"o" * 20, D, TREE_BYTES) == (True, [])
    assert not made.enter(KEY, C, TREE_BYTES)[0]
    monkeypatch.setattr(receivers, "_MOST_OBJECTS", 3)
    for number in range(10):
        key = bytes([number]) * 20
        made.enter(key, A, 1)
        made.leave(key, A)
    assert len(made._objects) <= 4
