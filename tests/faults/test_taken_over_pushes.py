"""Finalisers that wait in the middle of a push for what only that push brings: they send it themselves, once."""

from __future__ import annotations

import itertools
import os
import traceback

import pytest
from tests import sessions
from tests.quick import first_of

import ray
from ray.testing.interruption import interrupted

#: Too large to go inside the message, too small for the store: such arguments are frames of their own.
SIZE = 60_000
LIMIT_S = 30
_RUNTIME = tuple(os.path.join(os.path.dirname(ray.__file__), room, "") for room in ("runtime", "protocol"))
_CONNECTION = os.path.join(os.path.dirname(ray.__file__), "builtin", "unix_connection.py")
FILES = (
    "leasing.py", "tasks.py", "task_records.py", "recalls.py", "pushing.py", "records.py", "peers.py",
    "handing_over.py", "encoding.py", "carrying_out.py", "calls.py", "call_records.py", "node_link.py",
)  # fmt: skip


def sends(path):
    return path == _CONNECTION or (path.startswith(_RUNTIME) and path.endswith(FILES))


session = sessions.shared(num_cpus=1, log_to_driver=False)
nothing_left = sessions.unchecked()


def note(path, value):
    """One step, whatever another thread notes meanwhile."""
    with open(path, "ab", buffering=0) as file:
        file.write(b"%d\n" % len(value))
    return len(value)


@ray.remote
def size_of(path, value):
    return note(path, value)


@ray.remote
def other(path):
    return note(path, b"")


@ray.remote(num_cpus=0)
class Actor:
    def size(self, path, value):
        return note(path, value)


@ray.remote(num_cpus=0)
class AsyncActor:
    async def size(self, path, value):
        return note(path, value)


def notes(path):
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(map(int, lines))


def one(path):
    return [size_of.remote(path, b"x")]


def several(path):
    return [size_of.remote(path, b"x" * count) for count in range(1, 6)]


def large(path):
    return [size_of.remote(path, b"x" * (SIZE + 1)), size_of.remote(path, ray.put(b"x" * (SIZE + 2)))]


def unknown(path):
    """A function that no worker has."""

    def stranger(value):
        return note(path, value)

    return [ray.remote(stranger).remote(b"xx"), ray.remote(stranger).remote(b"xxx")]


def many(path):
    return [size_of.remote(path, b"x" * count) for count in range(1, 66)]


def attempt(found, call):
    """What interrupts: it is to fail here, whatever the code around it does with exceptions."""
    try:
        found.append(call())
    except Exception:
        found.append("".join(traceback.format_stack(limit=6)) + traceback.format_exc())


def every_point(submit, inside, path, *, warm, step=1):
    """Run ``submit`` with ``inside`` in its midst, at one point after the other: all of that runs, once."""
    for _ in range(2):
        ray.get(submit(str(path)), timeout=LIMIT_S)
    notes(path)
    for point in itertools.count(1, step):
        if warm:
            ray.get(submit(str(path)), timeout=LIMIT_S)
            notes(path)
        found = []
        refs, passed = interrupted(
            lambda: submit(str(path)), point, lambda found=found: attempt(found, lambda: inside(str(path))), sends
        )
        sizes = ray.get(refs, timeout=LIMIT_S)
        assert found in ([], [0]), f"interrupted at point {point}"
        assert notes(path) == sorted([*found, *sizes]), f"what ran, interrupted at point {point}"
        if passed < point:  # those that give up pass few after that
            break
    assert point > 15


@pytest.mark.parametrize("warm", first_of([False, True]), ids=["no lease", "a lease is kept"])
@pytest.mark.parametrize(
    ("submit", "step"),
    [(one, 1), (several, 1), (large, 1), (unknown, 1), (many, 13)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_tasks_are_sent_by_who_waits_for_their_processors(tmp_path, submit, step, warm):
    def inside(path):
        return ray.get(other.options(num_cpus=0.5).remote(path), timeout=LIMIT_S)

    every_point(submit, inside, tmp_path / "notes", warm=warm, step=step)


def test_tasks_are_sent_by_who_waits_for_them(tmp_path):
    """What waits there is behind them, at the same worker."""

    def inside(path):
        return ray.get(other.remote(path), timeout=LIMIT_S)

    every_point(several, inside, tmp_path / "notes", warm=True)


def test_tasks_are_sent_before_what_is_sent_without_a_wait(tmp_path):
    kept = []

    def inside(path):
        kept.append(other.remote(path))
        kept.append(other.options(num_cpus=0.5).remote(path))

    path = tmp_path / "notes"
    for point in itertools.count(1):
        refs, passed = interrupted(lambda: several(str(path)), point, lambda: inside(str(path)), sends)
        sizes = ray.get([*refs, *kept], timeout=LIMIT_S)
        assert notes(path) == sorted(sizes), f"what ran, interrupted at point {point}"
        kept.clear()
        if passed < point:
            break
    assert point > 15


@pytest.mark.parametrize("kind", [Actor, AsyncActor])
@pytest.mark.parametrize("size", [1, SIZE])
def test_calls_of_actors_are_sent_by_who_waits_behind_them(tmp_path, kind, size):
    actor = kind.remote()

    def submit(path):
        return [actor.size.remote(path, b"x" * size), actor.size.remote(path, b"x" * (size + 1))]

    def inside(path):
        return ray.get(actor.size.remote(path, b""), timeout=LIMIT_S)

    every_point(submit, inside, tmp_path / "notes", warm=False)


@pytest.mark.parametrize("kind", [Actor, AsyncActor])
def test_calls_of_actors_stay_in_order(tmp_path, kind):
    """The later it is made, the more of the others are before it."""
    actor = kind.remote()
    path = tmp_path / "notes"
    places = []
    for point in itertools.count(1):
        ray.get(actor.size.remote(str(path), b""), timeout=LIMIT_S)
        notes(path)
        _, passed = interrupted(
            lambda: ray.get([actor.size.remote(str(path), b"x"), actor.size.remote(str(path), b"xx")]),
            point,
            lambda: ray.get(actor.size.remote(str(path), b"xxx"), timeout=LIMIT_S),
            sends,
        )
        order = path.read_text().split()
        notes(path)
        if passed < point:
            break
        assert sorted(order) == ["1", "2", "3"], f"what ran, interrupted at point {point}"
        assert order.index("1") < order.index("2")
        places.append(order.index("3"))
    assert places == sorted(places)
    assert {0, 1, 2} == set(places)


def test_an_inner_one_is_interrupted_as_well(tmp_path):
    """Two deep: the innermost call sends what the others have begun."""
    actor = Actor.remote()

    def innermost(path):
        assert ray.get(other.options(num_cpus=0.25).remote(path), timeout=LIMIT_S) == 0
        assert ray.get(actor.size.remote(path, b"xxxx"), timeout=LIMIT_S) == 4

    def submit(path):
        return [size_of.remote(path, b"x"), actor.size.remote(path, b"xx")]

    path = tmp_path / "notes"
    ray.get(submit(str(path)), timeout=LIMIT_S)
    notes(path)
    for point in itertools.count(1):
        found = []

        def inside(point=point, found=found):
            def wait():
                return ray.get([other.options(num_cpus=0.5).remote(str(path)), *submit(str(path))], timeout=LIMIT_S)

            sizes, seen = interrupted(wait, 1 + point * 7 % 60, lambda: innermost(str(path)), sends)
            found.extend(sizes)
            if seen >= 1 + point * 7 % 60:
                found.extend((0, 4))

        refs, passed = interrupted(lambda: submit(str(path)), point, inside, sends)
        sizes = ray.get(refs, timeout=LIMIT_S)
        assert notes(path) == sorted([*found, *sizes]), f"what ran, interrupted at point {point}"
        if passed < point:
            break
    assert point > 15
