"""Blocks of an arena: disjoint, aligned, merged when free, none lost."""

from __future__ import annotations

import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ray_store_plasma.allocator import Allocator

CAPACITY = 1 << 16


class AllocatorMachine(RuleBasedStateMachine):
    """Against a plain list of what was given out."""

    def __init__(self) -> None:
        super().__init__()
        self.allocator = Allocator(CAPACITY + 63)
        self.blocks: dict[int, int] = {}

    @rule(nbytes=st.one_of(st.integers(0, 300), st.integers(0, CAPACITY), st.sampled_from([64, 128, 4096, CAPACITY])))
    def allocate(self, nbytes: int) -> None:
        offset = self.allocator.allocate(nbytes)
        size = max(64, -(-nbytes // 64) * 64)
        if offset is None:
            assert size > max(self.allocator.free_blocks().values(), default=0), "there was a block that fits"
            return
        assert offset % 64 == 0
        assert 0 <= offset <= CAPACITY - size
        for other, length in self.blocks.items():
            assert offset + size <= other or other + length <= offset, "two blocks overlap"
        self.blocks[offset] = size

    @precondition(lambda self: self.blocks)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.blocks)))
        assert self.allocator.free(offset) == self.blocks.pop(offset)

    @rule(offset=st.integers(-64, CAPACITY + 64))
    def free_what_is_not_there(self, offset: int) -> None:
        if offset not in self.blocks:
            with pytest.raises(KeyError):
                self.allocator.free(offset)

    @invariant()
    def is_consistent(self) -> None:
        self.allocator.check()
        assert self.allocator.taken() == self.blocks

    def teardown(self) -> None:
        for offset in list(self.blocks):
            self.allocator.free(offset)
        self.allocator.check()
        assert self.allocator.free_blocks() == {0: CAPACITY}, "all free space is one block again"


TestAllocator = AllocatorMachine.TestCase
TestAllocator.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_the_block_freed_last_is_used_first() -> None:
    allocator = Allocator(1 << 20)
    blocks = [allocator.allocate(1000) for _ in range(8)]
    for index in (1, 5, 3):
        block = blocks[index]
        assert block is not None
        allocator.free(block)
    assert [allocator.allocate(1000) for _ in range(3)] == [blocks[3], blocks[5], blocks[1]]


def test_a_block_of_just_the_size_is_found_among_larger_ones() -> None:
    allocator = Allocator(1 << 24)
    size = 100_000
    hole = allocator.allocate(size)
    wall = allocator.allocate(64)
    assert hole == 0
    assert wall is not None
    allocator.free(hole)
    assert allocator.allocate(size) == hole


def test_an_empty_range_has_no_room() -> None:
    allocator = Allocator(0)
    assert allocator.allocate(1) is None
    allocator.check()


def test_time_does_not_grow_with_the_number_of_blocks() -> None:
    """A thousand times as many blocks may take a few times as long (caches), and not a thousand times."""

    def seconds(count: int) -> float:
        allocator = Allocator(1 << 32)
        offsets = [allocator.allocate(100 + n % 7 * 1000) for n in range(count)]
        for offset in offsets[::2]:
            assert offset is not None
            allocator.free(offset)
        best = 1.0
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(200):
                offset = allocator.allocate(3000)
                assert offset is not None
                allocator.free(offset)
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(100_000) < 50 * seconds(100)
