"""How much room a thread has left on its stack, looked at from each depth."""

from __future__ import annotations

import functools
import sys

import pytest

from ray.headroom import SENDING, TAKING, Room, check, lacks


def down(calls, last):
    return last() if calls <= 0 else down(calls - 1, last)


def depth():
    calls = 10
    while True:
        try:
            down(calls, int)
        except RecursionError:
            return calls
        calls += 1


@pytest.mark.parametrize("room", [SENDING, TAKING, Room(30)])
def test_what_it_says_is_so(room):
    """Where there is said to be room, so many calls succeed; where there is said to be none, a few more do not."""
    most = depth()
    for calls in range(most - 2 * room.calls, most - 3):
        if down(calls, functools.partial(lacks, room)):
            assert most - calls < room.calls + 10
        else:
            down(calls + room.calls - 10, int)


def test_it_is_raised_before_anything_is_done():
    most = depth()
    down(most - 200, functools.partial(check, TAKING))
    with pytest.raises(RecursionError, match="no room left"):
        down(most - 50, functools.partial(check, TAKING))


def test_a_limit_that_is_less_than_the_room_leaves_none():
    limit = sys.getrecursionlimit()
    assert not lacks(TAKING)
    try:
        sys.setrecursionlimit(limit - depth() + 50)
        assert lacks(TAKING)
    finally:
        sys.setrecursionlimit(limit)
    assert not lacks(TAKING)
