"""Points at which a call may be interrupted: those at which CPython would let it be."""

from __future__ import annotations

from ray.testing.interruption import interrupted


def here(path):
    return path == __file__


def one_by_one(queue):
    taken = []
    while True:
        if not queue:
            break
        first = queue[0]
        if first is None or queue[0] is not first:
            continue
        queue.remove(first)
        taken.append(first)
    return taken


def test_every_point_comes_once():
    _, points = interrupted(lambda: one_by_one([1, 2]), 0, int, here)
    assert points > 4
    for point in range(1, points + 1):
        came = []
        result, _ = interrupted(lambda: one_by_one([1, 2]), point, lambda came=came: came.append(True), here)
        assert (result, came) == ([1, 2], [True])


def test_nothing_comes_between_a_look_and_the_step_behind_it():
    """A conditional jump back is a point only where it jumps."""
    point = 0
    while True:
        point += 1
        queue = [1, 2, 3]
        _, points = interrupted(lambda queue=queue: one_by_one(queue), point, queue.clear, here)
        if point > points:
            break
        # ``remove`` of what is not there would have raised
    assert point > 4
