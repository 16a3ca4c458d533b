"""Where objects lie in the arena, and in the spill file: offsets and sizes, no memory.

Free blocks are kept by size class (a power of two in 32 steps), the classes that have any in the bits of an integer: a
block that fits is found without a search. The idea is that of "TLSF: a new dynamic memory allocator for real-time
systems" (Masmano and others, 2004).
"""

from __future__ import annotations

from itertools import islice
from typing import Any

_STEP_BITS = 5
#: How many blocks of its own class a request looks at before it takes one of a larger class.
_TRIED = 16


class Allocator:
    """Disjoint blocks of a range of ``capacity`` bytes. Of blocks that fit alike, the one freed last is used first."""

    def __init__(self, capacity: int, alignment: int = 64) -> None:
        """All of it free.

        Args:
            capacity: bytes; what is left of a multiple of ``alignment`` is not used.
            alignment: every block starts at a multiple of it and is a multiple of it long.
        """
        self.alignment = alignment
        self.capacity = capacity // alignment * alignment
        self.used = 0
        #: {offset: size} of blocks that are in use
        self._taken: dict[int, int] = {}
        #: {offset: size} of free blocks; no two of them touch
        self._free: dict[int, int] = {}
        #: {end: offset} of the same blocks
        self._free_ends: dict[int, int] = {}
        #: {size class: its free blocks, the one freed last at the end}
        self._classes: dict[int, dict[int, None]] = {}
        #: Bit n: class n has a block.
        self._filled = 0
        if self.capacity:
            self._put(0, self.capacity)

    def size_of(self, nbytes: int) -> int:
        """What a block for ``nbytes`` takes."""
        return max(1, -(-nbytes // self.alignment)) * self.alignment

    def allocate(self, nbytes: int) -> int | None:
        """The offset of a new block, or None if no free block is large enough."""
        size = self.size_of(nbytes)
        offset = self._find(size)
        if offset is None:
            return None
        rest = self._take(offset) - size
        if rest:
            self._put(offset + size, rest)
        self._taken[offset] = size
        self.used += size
        return offset

    def free(self, offset: int) -> int:
        """Give a block back; returns its size. Raises KeyError if no block in use starts there."""
        size = freed = self._taken.pop(offset)
        self.used -= size
        after = self._free.get(offset + size)
        if after is not None:
            size += self._take(offset + size)
        before = self._free_ends.get(offset)
        if before is not None:
            size += self._take(before)
            offset = before
        self._put(offset, size)
        return freed

    def taken(self) -> dict[int, int]:
        """``{offset: size}`` of the blocks in use; a copy."""
        return dict(self._taken)

    def free_blocks(self) -> dict[int, int]:
        """``{offset: size}`` of the free blocks; a copy."""
        return dict(self._free)

    def check(self) -> None:
        """Raise AssertionError unless the blocks cover the range, once, and no two free ones touch."""
        end, was_free = 0, False
        blocks: list[tuple[int, int, Any]] = [(*block, False) for block in self._taken.items()]
        blocks += [(*block, True) for block in self._free.items()]
        for offset, size, is_free in sorted(blocks):
            assert offset == end, f"the block at {offset} should be at {end}"
            assert size > 0, f"the block at {offset} has {size} bytes"
            assert offset % self.alignment == size % self.alignment == 0, f"{offset} and {size} are not aligned"
            assert not (was_free and is_free), f"the free block at {offset} is not merged with the one before"
            end, was_free = offset + size, is_free
        assert end == self.capacity, f"the blocks end at {end} of {self.capacity}"
        assert self.used == sum(self._taken.values()), "the bytes in use are counted wrongly"
        assert self._free_ends == {offset + size: offset for offset, size in self._free.items()}, "ends are wrong"
        filed = {offset: size_class for size_class, group in self._classes.items() for offset in group}
        assert filed == {offset: self._class_of(size) for offset, size in self._free.items()}, "classes are wrong"
        assert self._filled == sum(1 << n for n, group in self._classes.items() if group), "the bits are wrong"

    def _class_of(self, size: int) -> int:
        units = size // self.alignment
        shift = max(0, units.bit_length() - _STEP_BITS - 1)
        return (shift << _STEP_BITS) + (units >> shift)

    def _find(self, size: int) -> int | None:
        own = self._class_of(size)
        for offset in islice(reversed(self._classes.get(own, {})), _TRIED):
            if self._free[offset] >= size:
                return offset
        larger = self._filled >> (own + 1)
        if not larger:
            return None
        lowest = (larger & -larger).bit_length() + own
        return next(reversed(self._classes[lowest]))

    def _put(self, offset: int, size: int) -> None:
        self._free[offset] = size
        self._free_ends[offset + size] = offset
        size_class = self._class_of(size)
        self._classes.setdefault(size_class, {})[offset] = None
        self._filled |= 1 << size_class

    def _take(self, offset: int) -> int:
        size = self._free.pop(offset)
        del self._free_ends[offset + size]
        size_class = self._class_of(size)
        group = self._classes[size_class]
        del group[offset]
        if not group:
            self._filled &= ~(1 << size_class)
        return size
