"""Somebody on the way between two object managers changes what they say: nobody ever gets wrong bytes of it."""

from __future__ import annotations

import datetime
import itertools
import random
from collections.abc import Callable, Iterator

import pytest
from tests.data_ways import DataWays, Frame, Tampering, cluster_with_ways
from tests.moved_values import transfers
from tests.quick import first_of

import ray
from ray.exceptions import ObjectLostError
from ray.runtime.object_manager.frames import BUSY, FRAME_BYTES, HEADER_BYTES, HOLDERS, REFUSED, SAMPLED, WAIT
from ray.testing import inside
from ray.testing.cluster import Cluster

LIMIT_S = 50
LIMIT = datetime.timedelta(seconds=LIMIT_S)
#: Of a value: so many whole frames and a bit, so that there is always one more to take the place of another.
FRAMES = 5
NBYTES = FRAMES * FRAME_BYTES + 4567
STORE_BYTES = 96 << 20


class World:
    """A cluster that encrypts, and ways to two of its nodes, "far" and "third"."""

    def __init__(self, cluster: Cluster, ways: DataWays) -> None:
        self.cluster = cluster
        self.far, self.third = (ways.to(node) for node in cluster.nodes[1:])

    def transfers(self) -> dict[str, int]:
        """Of the node of the driver."""
        return transfers(self.cluster.head_node)


@pytest.fixture(scope="module")
def nodes() -> Iterator[World]:
    pytest.importorskip("cryptography")
    names = ("head", "far", "third")
    with cluster_with_ways(*names, sealed=True, num_cpus=1, object_store_memory=STORE_BYTES) as made:
        yield World(*made)


@pytest.fixture
def world(nodes: World) -> Iterator[World]:
    """The program is a driver at the head, and nobody changes anything."""
    with ray.init(nodes.cluster.address):
        yield nodes
        for way in (nodes.far, nodes.third):
            way.tamper(None)
        inside.settled()


def pattern(seed: int) -> bytes:
    """No two parts of it are the same, nor those of two of them in the same place."""
    return random.Random(seed).randbytes(NBYTES)


@ray.remote(resources={"far": 1})
def make(seed: int) -> bytes:
    return pattern(seed)


@ray.remote(num_cpus=0, resources={"third": 1})
class Reader:
    """Reads values on its node, which keeps copies as long as this has the refs."""

    def read(self, refs: list[ray.ObjectRef[bytes]]) -> bool:
        self.kept = refs
        return all(ray.get(refs))


def made(seed: int) -> ray.ObjectRef[bytes]:
    ref = make.remote(seed)
    ray.wait([ref], timeout=LIMIT)
    return ref


# --- what somebody may do ---------------------------------------------------------------------------------------------


def in_place_of(number: int, change: Callable[[Frame, Iterator[Frame]], Iterator[bytes]]) -> Tampering:
    """Frames go on as they are, up to that one."""

    def tampering(frames: Iterator[Frame]) -> Iterator[bytes]:
        yield from (frame.to_bytes() for frame in itertools.islice(frames, number))
        yield from change(next(frames), frames)

    return tampering


def flipped(chance: random.Random, first: int, last: int | None) -> Tampering:
    """A bit of a frame's bytes, of those in this range."""

    def change(frame: Frame, frames: Iterator[Frame]) -> Iterator[bytes]:
        data = bytearray(frame.to_bytes())
        at = chance.choice(range(len(data))[first:last])
        data[at] ^= 1 << chance.randrange(8)
        yield bytes(data)

    return in_place_of(chance.randrange(FRAMES), change)


def replayed(chance: random.Random) -> Tampering:
    """A frame comes twice."""

    def change(frame: Frame, frames: Iterator[Frame]) -> Iterator[bytes]:
        yield frame.to_bytes() * 2

    return in_place_of(chance.randrange(FRAMES), change)


def repeated(chance: random.Random) -> Tampering:
    """The bytes of a frame, with the header of the next one."""

    def change(frame: Frame, frames: Iterator[Frame]) -> Iterator[bytes]:
        yield frame.to_bytes()
        yield next(frames).header.to_bytes() + frame.body

    return in_place_of(chance.randrange(FRAMES - 1), change)


def swapped(chance: random.Random) -> Tampering:
    """Two frames change places."""

    def change(frame: Frame, frames: Iterator[Frame]) -> Iterator[bytes]:
        yield next(frames).to_bytes()
        yield frame.to_bytes()

    return in_place_of(chance.randrange(FRAMES), change)


def swapped_bytes(chance: random.Random) -> Tampering:
    """The bytes of two frames do, and their headers stay."""

    def change(frame: Frame, frames: Iterator[Frame]) -> Iterator[bytes]:
        following = next(frames)
        yield frame.header.to_bytes() + following.body
        yield following.header.to_bytes() + frame.body

    return in_place_of(chance.randrange(FRAMES - 1), change)


def left_out(chance: random.Random) -> Tampering:
    """A frame does not come."""

    def change(frame: Frame, frames: Iterator[Frame]) -> Iterator[bytes]:
        yield next(frames).to_bytes()

    return in_place_of(chance.randrange(FRAMES), change)


def truncated(chance: random.Random) -> Tampering:
    """A part of a frame's bytes does not come."""

    def change(frame: Frame, frames: Iterator[Frame]) -> Iterator[bytes]:
        yield frame.to_bytes()[: -chance.randrange(1, FRAME_BYTES)]

    return in_place_of(chance.randrange(FRAMES - 1), change)  # another whole one follows: its bytes are taken for them


def shortened(chance: random.Random) -> Tampering:
    """The same, and the header says so."""

    def change(frame: Frame, frames: Iterator[Frame]) -> Iterator[bytes]:
        less = chance.randrange(1, FRAME_BYTES)
        yield frame.header._replace(length=frame.header.length - less).to_bytes()
        yield bytes(frame.body[:-less])

    return in_place_of(chance.randrange(FRAMES), change)


def edited(field: str, values: list[int]) -> Callable[[random.Random], Tampering]:
    """A header says something else; its checksum is right."""

    def edit(chance: random.Random) -> Tampering:
        def change(frame: Frame, frames: Iterator[Frame]) -> Iterator[bytes]:
            others = [value for value in values if value != getattr(frame.header, field)]
            yield frame.header._replace(**{field: chance.choice(others)}).to_bytes()
            yield bytes(frame.body)

        return in_place_of(chance.randrange(FRAMES), change)

    return edit


TAMPERINGS: dict[str, Callable[[random.Random], Tampering]] = {
    "a bit of the bytes": lambda chance: flipped(chance, HEADER_BYTES, None),
    "a bit of the tag": lambda chance: flipped(chance, -16, None),
    "a bit of the header": lambda chance: flipped(chance, 0, HEADER_BYTES),
    "replayed": replayed,
    "the bytes of the one before": repeated,
    "swapped": swapped,
    "bytes swapped": swapped_bytes,
    "left out": left_out,
    "truncated": truncated,
    "shortened": shortened,
    "of another stream": edited("stream", [0, 2, 1 << 31]),
    "at another place": edited("offset", [0, 1, FRAME_BYTES, 3 * FRAME_BYTES, 1 << 40]),
    "of another length": edited("length", [0, 1, FRAME_BYTES - 1, FRAME_BYTES + 1, (1 << 32) - 1]),
    "of another kind": edited("kind", [WAIT, REFUSED, SAMPLED, HOLDERS, BUSY, BUSY + 1, (1 << 32) - 1]),
}


@pytest.mark.parametrize("seed", first_of(range(20)))
def test_what_was_changed_is_not_taken(world: World, seed: int) -> None:
    """It is counted, and costs a connection; the right bytes come over the next one, and none comes twice."""
    chance = random.Random(seed)
    for number, (what, tampering) in enumerate(TAMPERINGS.items()):
        ref = made(seed + number)
        before, tampered = world.transfers(), world.far.tampered
        world.far.tamper(tampering(chance))
        assert ray.get(ref, timeout=LIMIT_S) == pattern(seed + number), what
        after = world.transfers()
        assert world.far.tampered == tampered + 1, what
        assert after["bad_frames"] == before["bad_frames"] + 1, what
        assert 0 <= after["received_bytes"] - before["received_bytes"] - NBYTES < 4096, what
        assert after["failed"] == before["failed"], what


@pytest.mark.parametrize("seed", first_of(range(20)))
def test_a_frame_of_another_ticket_is_not_taken(world: World, seed: int) -> None:
    """It is of the same object, and of the same place in it."""
    chance, kept = random.Random(seed), []

    def keep(frames: Iterator[Frame]) -> Iterator[bytes]:
        for frame in itertools.islice(frames, FRAMES):
            kept.append(frame)
            yield frame.to_bytes()

    def take_theirs(frame: Frame, frames: Iterator[Frame]) -> Iterator[bytes]:
        (theirs,) = (found for found in kept if found.header == frame.header)
        assert theirs.body != frame.body
        yield theirs.to_bytes()

    ref, reader = made(seed), Reader.remote()
    world.far.tamper(keep)
    assert ray.get(reader.read.remote([ref]), timeout=LIMIT_S)
    before = world.transfers()
    world.far.tamper(in_place_of(chance.randrange(FRAMES), take_theirs))
    assert ray.get(ref, timeout=LIMIT_S) == pattern(seed)
    after = world.transfers()
    assert after["bad_frames"] == before["bad_frames"] + 1
    assert 0 <= after["received_bytes"] - before["received_bytes"] - NBYTES < 4096


def spoil(chance: random.Random) -> Tampering:
    """A bit of the first frame of each answer."""
    return lambda frames: (spoilt(frame, chance) for frame in itertools.islice(frames, 1))


def spoilt(frame: Frame, chance: random.Random) -> bytes:
    data = bytearray(frame.to_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


@pytest.mark.parametrize("seed", first_of(range(20)))
def test_another_node_has_it_as_well(world: World, seed: int) -> None:
    """Nothing that its origin sends arrives as it was."""
    ref, reader = made(seed), Reader.remote()
    assert ray.get(reader.read.remote([ref]), timeout=LIMIT_S)
    before, passed = world.transfers(), world.third.passed
    world.far.tamper(spoil(random.Random(seed)), for_all=True)
    assert ray.get(ref, timeout=LIMIT_S) == pattern(seed)
    after = world.transfers()
    assert after["bad_frames"] > before["bad_frames"]
    assert world.third.passed >= passed + NBYTES
    assert 0 <= after["received_bytes"] - before["received_bytes"] - NBYTES < 4096


@pytest.mark.parametrize("seed", first_of(range(5), 0))
def test_nobody_else_has_it(world: World, seed: int) -> None:
    """As long as nothing arrives as it was there is no value, and somebody hears why; then there is."""
    ref = made(seed)
    before, connections = world.transfers(), world.far.connections
    world.far.tamper(spoil(random.Random(seed)), for_all=True)
    with pytest.raises(ObjectLostError):
        ray.get(ref, timeout=LIMIT_S)
    after = world.transfers()
    assert after["bad_frames"] - before["bad_frames"] >= world.far.connections - connections > 0
    assert after["received_bytes"] == before["received_bytes"]
    world.far.tamper(None)
    assert ray.get(ref, timeout=LIMIT_S) == pattern(seed)
