"""The order of service among demands that wait for workers."""

from hypothesis import given
from hypothesis import strategies as st

from ray.abc.scheduler import ResourceRequest
from ray.protocol.waiting import DemandEntry, WaitingLines

OWNERS = [b"a", b"b", b"c", b"d"]
SHAPES = [{}, {"CPU": 10_000}, {"CPU": 20_000, "disk": 10_000}]


def served(lines, close_after=()):
    """Keys in order of service, where lines are closed behind the given keys."""
    closed, keys = set(), []
    for line, entry in lines.in_order(closed):
        keys.append(entry.key)
        if entry.key in close_after:
            closed.add(line)
    return keys


wishes = st.tuples(
    st.sampled_from(OWNERS),
    st.integers(0, 3),
    st.sampled_from(SHAPES),
    st.integers(0, 2),
    st.integers(0, 2),
    st.booleans(),
)


@given(st.lists(st.one_of(wishes, st.tuples(st.sampled_from(OWNERS), st.integers(0, 3))), max_size=60))
def test_order_is_that_of_a_sorted_list(steps):
    """Entered, moved and removed in any order."""
    lines, expected = WaitingLines(), {}
    for turn, step in enumerate(steps):
        key = step[:2]
        if len(step) == 2:
            lines.remove(key)
            expected.pop(key, None)
            continue
        _, _, needs, depth, priority, holds = step
        entry = DemandEntry(key, ResourceRequest(needs, depth, priority), 1, "", turn)
        lines.put(entry, holds=holds, free=not needs)
        expected[key] = (-depth, -priority, holds, turn)
    assert served(lines) == sorted(expected, key=expected.get)


def test_a_closed_line_costs_no_more_looks():
    lines = WaitingLines()
    for number in range(10_000):
        needs = SHAPES[number % 3]
        lines.put(DemandEntry((b"a", number), ResourceRequest(needs), 1, "", number), holds=False, free=not needs)
    first = {(b"a", 0), (b"a", 1), (b"a", 2)}
    assert set(served(lines, close_after=first)) == first


def test_the_others_go_on_behind_a_closed_line():
    lines = WaitingLines()
    for number in range(6):
        needs = SHAPES[number % 2]
        lines.put(DemandEntry((b"a", number), ResourceRequest(needs), 1, "", number), holds=False, free=not needs)
    assert served(lines, close_after={(b"a", 2)}) == [(b"a", 0), (b"a", 1), (b"a", 2), (b"a", 3), (b"a", 5)]
