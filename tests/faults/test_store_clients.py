"""Clients of a store that are killed: what they had comes back, and nobody ever reads bytes of another object."""

from __future__ import annotations

import importlib.util
import mmap
import os
import random
import signal
import statistics
import struct
import time
from collections import defaultdict

import pytest
from tests.faults.store_clients import Node, an_id
from tests.quick import first_of
from tests.soak import SOAK

from ray.exceptions import ObjectExistsError
from ray.testing import eventually, leaks

STORES = [name for name in ("shm", "plasma") if importlib.util.find_spec(f"ray_store_{name}")]
KIB, MIB = 1 << 10, 1 << 20

pytestmark = [pytest.mark.timeout(3600 if SOAK else 120)]


@pytest.fixture
def start(tmp_path):
    """Start a store of so many bytes."""
    before = leaks.snapshot()
    nodes = []

    def make(store, capacity_bytes):
        nodes.append(Node(store, str(tmp_path), capacity_bytes))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()
    leaks.assert_clean(before)


#: (id, size, version), again and again: each byte of an object says which one it belongs to.
WORD = struct.Struct(">IIQ")


def content(number, nbytes, version):
    word = WORD.pack(number, nbytes, version)
    return (word * (nbytes // WORD.size + 1))[:nbytes]


def check(number, view, *versions):
    """Every byte that is seen must be of one version of this object, of one of ``versions`` if any; returns it."""
    data = bytes(view)
    of, nbytes, version = WORD.unpack(data[: WORD.size])
    if data != content(number, len(data), version) or (versions and version not in versions):
        wanted = content(number, len(data), versions[0] if versions else version)
        first = next((at for at, pair in enumerate(zip(data, wanted, strict=True)) if pair[0] != pair[1]), 0)
        raise AssertionError(
            f"wrong bytes in object {number} of {len(data)} bytes from {first} on: {data[first : first + 48].hex()}; "
            f"it begins as number {of} of {nbytes} bytes, version {version}, not one of {versions}"
        )
    return version


# --- what the dead had ------------------------------------------------------------------------------------------------

SMALL = range(1000)
LARGE = range(2000, 2008)
SIZES = dict.fromkeys(SMALL, 1000) | dict.fromkeys(LARGE, 256 * KIB)
MADE_BYTES = 4 * MIB


class Scene:
    """A store with a thousand small objects and a few large ones, two clients that watch, and a victim each round."""

    def __init__(self, node, chance):
        self.node = node
        self.chance = chance
        self.store = node.connect()
        self.watchers = [self.store, node.connect()]
        self.versions = dict.fromkeys(SIZES, 0)
        for number in SIZES:
            self.put(number)
        self.before = self.store.stats()
        self.made = 10_000
        self.reclaimed_ms = defaultdict(list)

    def put(self, number):
        self.versions[number] += 1
        data = content(number, SIZES[number], self.versions[number])
        self.store.put(an_id(number), [data], len(data))

    def put_again(self, numbers):
        """Others replace what the victim may hold."""
        for number in numbers:
            self.store.delete(an_id(number))
            self.put(number)

    def read(self, number, *versions):
        view = self.store.get(an_id(number))
        assert view is not None, number
        version = check(number, view, *versions)
        del view
        self.store.release(an_id(number))
        return version

    def heard(self):
        """What each watcher has been told of the object that the victim makes."""
        return [
            [nbytes for object_id, nbytes in watcher.notifications() if object_id == an_id(self.made)]
            for watcher in self.watchers
        ]

    def is_back(self):
        return self.store.stats() == self.before

    def play(self, moment):
        """One round."""
        self.made += 1
        for watcher in self.watchers:
            watcher.subscribe(an_id(self.made))
        MOMENTS[moment](self, moment)
        for watcher in self.watchers:
            watcher.unsubscribe(an_id(self.made))
        eventually(lambda: not any(row.holders for row in self.store.list()), why="the dead hold something")
        self.make_it_after_all()
        for number in self.chance.sample(list(SIZES), 20):
            self.read(number, self.versions[number])

    def make_it_after_all(self):
        view = self.store.create(an_id(self.made), MADE_BYTES)
        view[:] = content(self.made, MADE_BYTES, 2)
        view.release()
        self.store.seal(an_id(self.made))
        self.read(self.made, 2)
        self.store.delete(an_id(self.made))
        eventually(self.is_back, why="a later object of the same id leaves something")

    def kill(self, moment, victim, is_over=None):
        """Time how long it takes until all that the victim had is there for others."""
        began = time.perf_counter()
        victim.kill()
        eventually(is_over or self.is_back, why="what the dead had does not come back")
        self.reclaimed_ms[moment].append((time.perf_counter() - began) * 1000)
        assert victim.join() == signal.SIGKILL

    # The victims' last moments, each with what others do and see meanwhile.

    def between_create_and_seal(self, moment):
        def victim(tell):
            store = self.node.open()
            view = store.create(an_id(self.made), MADE_BYTES)
            view[: MADE_BYTES // 2] = content(self.made, MADE_BYTES, 1)[: MADE_BYTES // 2]
            tell()
            signal.pause()

        child = self.node.fork(victim)
        child.told()
        assert self.store.get(an_id(self.made)) is None
        with pytest.raises(ObjectExistsError):
            self.store.create(an_id(self.made), 10)
        assert self.heard() == [[], []]
        self.kill(moment, child)
        assert self.heard() == [[-1], [-1]]
        assert self.store.get(an_id(self.made)) is None

    def during_a_put(self, moment):
        data = content(self.made, MADE_BYTES, 1)

        def victim(tell):
            store = self.node.open()
            tell()
            store.put(an_id(self.made), [data[:100], memoryview(data)[100:]], len(data))
            signal.pause()

        child = self.node.fork(victim)
        child.told()
        time.sleep(self.chance.uniform(0, 0.004))
        self.kill(moment, child, lambda: self.is_back() or self.store.contains(an_id(self.made)))
        # Killed, it may have asked for room a moment ago.
        eventually(
            lambda: not any(row.state == "created" for row in self.store.list()), why="the unsealed object stays"
        )
        if self.store.contains(an_id(self.made)):
            self.read(self.made, 1)
            assert self.heard() == [[MADE_BYTES]] * 2
            self.store.delete(an_id(self.made))
            eventually(self.is_back, why="a sealed object leaves something")
        else:
            assert self.heard() in ([[], []], [[-1], [-1]])

    def during_a_get(self, moment):
        def victim(tell):
            store = self.node.open()
            while True:
                views = {number: store.get(an_id(number)) for number in LARGE}
                for number, view in views.items():
                    if view is not None:
                        check(number, view)
                        store.release(an_id(number))
                del view, views
                tell()

        child = self.node.fork(victim)
        child.told()
        time.sleep(self.chance.uniform(0, 0.003))
        self.put_again(self.chance.sample(LARGE, 4))
        self.kill(moment, child)

    def hold_a_thousand(self, store):
        views = [store.get(an_id(number)) for number in SMALL]
        assert None not in views
        return views

    def while_it_holds_a_thousand(self, moment):
        def victim(tell):
            store = self.node.open()
            views = self.hold_a_thousand(store)
            tell()
            signal.pause()
            del views

        child = self.node.fork(victim)
        child.told()
        self.put_again(self.chance.sample(SMALL, 20))
        assert self.store.stats().used_bytes > self.before.used_bytes
        self.kill(moment, child)

    def gone_without_a_word(self, moment):
        """The process lives on, but its connection is closed; it has released nothing."""
        read, write = os.pipe()

        def victim(tell):
            store = self.node.open()
            views = self.hold_a_thousand(store)
            unsealed = store.create(an_id(self.made), MADE_BYTES)
            tell()
            os.read(read, 1)
            store.abandon()
            signal.pause()
            del views, unsealed

        child = self.node.fork(victim)
        child.told()
        self.put_again(self.chance.sample(SMALL, 20))
        began = time.perf_counter()
        os.write(write, b"!")
        eventually(self.is_back, why="what the client had that has gone does not come back")
        self.reclaimed_ms[moment].append((time.perf_counter() - began) * 1000)
        assert self.heard() == [[-1], [-1]]
        child.kill()
        assert child.join() == signal.SIGKILL
        os.close(read)
        os.close(write)


MOMENTS = {
    "between create and seal": Scene.between_create_and_seal,
    "during a put": Scene.during_a_put,
    "during a get": Scene.during_a_get,
    "while it holds a thousand": Scene.while_it_holds_a_thousand,
    "gone without a word": Scene.gone_without_a_word,
}


def figures(times):
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return f"p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, max {max(times):.1f} ms"


@pytest.mark.parametrize("store", first_of(STORES[::-1]))
def test_what_clients_had_that_die_comes_back(start, store, rounds, capsys):
    node = start(store, 64 * MIB)
    chance = random.Random(store)
    scene = Scene(node, chance)
    count = rounds(20, 1000)
    moments = [list(MOMENTS)[number % len(MOMENTS)] for number in range(count)]
    chance.shuffle(moments)
    for moment in moments:
        scene.play(moment)
    assert node.is_alive()
    for number, version in scene.versions.items():
        scene.read(number, version)
    with capsys.disabled():
        everything = [time for times in scene.reclaimed_ms.values() for time in times]
        print(f"\n{store}: from death to reclaimed, {len(everything)} rounds: {figures(everything)}")
        for moment, times in scene.reclaimed_ms.items():
            print(f"  {moment}: {len(times)} rounds, {figures(times)}")


# --- what the living see ----------------------------------------------------------------------------------------------

READERS, WRITERS, SLOTS_EACH = 3, 2, 6
#: A writer's sizes: mostly one, so that memory of one object is likely to become that of another.
WRITTEN = [MIB, MIB, MIB, MIB + 1, MIB - 4096, 3 * MIB, 100_000, WORD.size]
#: What an aborted object had in it.
NEVER_SEALED = 0
MOST_HELD = 6


class Board:
    """What the processes share with the test: whether to stop, and how many objects each reader has checked."""

    def __init__(self):
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def stop(self):
        self._memory[0] = 1

    @property
    def is_over(self):
        return self._memory[0] == 1

    def count(self, reader):
        self._memory[8 * reader + 8 : 8 * reader + 16] = (self.checked(reader) + 1).to_bytes(8, "big")

    def checked(self, reader):
        return int.from_bytes(self._memory[8 * reader + 8 : 8 * reader + 16], "big")


def read_on(open_store, chance, board, reader):
    """Get objects, look at them, hold some, look at them again; release them before or after their views go."""
    store = open_store()
    held = []
    latest = defaultdict(int)
    while not board.is_over:
        if chance.random() < 0.02:  # what is seen stays when its client closes
            store.close()
            store = open_store()
            held = [(number, version, view, True) for number, version, view, _ in held]
        number = chance.randrange(WRITERS * SLOTS_EACH)
        view = store.get(an_id(number))
        if view is not None:
            version = check(number, view)
            assert version != NEVER_SEALED, "bytes of an object that was aborted"
            assert version >= latest[number], "an older object than before"
            latest[number] = version
            board.count(reader)
            is_released = chance.random() < 0.5
            if is_released:
                store.release(an_id(number))
            held.append((number, version, view[:], is_released))
        del view
        while len(held) > chance.randint(0, MOST_HELD):
            number, version, view, is_released = held.pop(chance.randrange(len(held)))
            check(number, view, version)
            del view
            if not is_released:
                store.release(an_id(number))


def write_on(open_store, chance, board, writer):
    """Delete and make again, in every way that there is."""
    store = open_store()
    while not board.is_over:
        number = writer * SLOTS_EACH + chance.randrange(SLOTS_EACH)
        store.delete(an_id(number))
        nbytes = chance.choice(WRITTEN)
        data = content(number, nbytes, time.monotonic_ns())
        way = chance.randrange(5)
        if way < 3:
            cut = chance.randint(0, nbytes)
            store.put(an_id(number), [data[:cut], memoryview(data)[cut:]], nbytes)
            continue
        view = store.create(an_id(number), nbytes)
        view[:] = data if way == 3 else content(number, nbytes, NEVER_SEALED)
        view.release()
        if way == 3:
            store.seal(an_id(number))
        else:
            store.abort(an_id(number))


#: Where writers are not killed: the names that their memory has for microseconds would stay.
PORTABLE = "tests.faults.portable_store"


@pytest.mark.parametrize("store", first_of([*reversed(STORES), *([PORTABLE] if "shm" in STORES else [])]))
def test_nobody_ever_sees_bytes_of_another_object(start, store, rounds):
    node = start(store, 256 * MIB)
    chance = random.Random()
    board = Board()
    roles = [(read_on, number) for number in range(READERS)] + [(write_on, number) for number in range(WRITERS)]

    def enter(role):
        work, number = role
        seed = chance.random()
        return node.fork(lambda _: work(node.open, random.Random(seed), board, number))

    living = {role: enter(role) for role in roles}
    mortal = roles[1 : READERS if store == PORTABLE else None]  # the first reader stays to the end
    deaths, wanted = 0, rounds(50, 2000)
    checks, end = rounds(500, 20_000), time.monotonic() + rounds(2, 120)
    while time.monotonic() < end or deaths < wanted or sum(map(board.checked, range(READERS))) < checks:
        time.sleep(chance.uniform(0, 0.02))  # it dies wherever it happens to be
        role = chance.choice(mortal)
        living[role].kill()
        assert living[role].join() == signal.SIGKILL, "it has failed before; see what it has printed"
        deaths += 1
        living[role] = enter(role)
    board.stop()
    assert [child.join() for child in living.values()] == [0] * len(roles)
    assert node.is_alive()
    client = node.connect()
    eventually(lambda: not any(row.holders for row in client.list()), why="the dead hold something")
    for row in client.list():
        number = int.from_bytes(row.object_id[-4:], "big")
        view = client.get(row.object_id)
        assert view is not None
        assert check(number, view) != NEVER_SEALED
        del view
        client.release(row.object_id)
        client.delete(row.object_id)
    eventually(lambda: (client.stats().objects, client.stats().used_bytes) == (0, 0), why="something is left")
