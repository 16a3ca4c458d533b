"""Which objects are in memory, which wait for room, and which have to make it.

Pure: it decides; the server copies. Room is made, in this order, by dropping what is unpinned, by dropping what has a
copy on the disk, by writing to the disk; always the least recently used first, and never what a client holds. What
cannot be had that way is waited for.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ray_store_plasma.allocator import Allocator
from ray_store_plasma.messages import HEAD_BYTES
from ray_store_plasma.objects import COMES_IN, GOES_OUT, SEALED, STILL, Effect, ReadBack, Stored, Trim, WriteOut

#: The arena is known to be warm or cold in pieces of this size.
GRAIN_BYTES = 1 << 20
#: Without pages; with pages; with pages that have been used not long ago.
_COLD, _WARM, _HOT = range(3)
_COOLER = bytes((_COLD, _COLD, _WARM)) + bytes(253)
#: Extents of the spill file: what file systems give back in whole.
_DISK_BLOCK_BYTES = 4096
#: As much as a file can have: the disk itself is the limit.
_NO_LIMIT_BYTES = 1 << 60


class Room:
    """The arena, the spill file and the queue of objects that are to come into memory."""

    def __init__(
        self,
        capacity_bytes: int,
        effects: list[Effect],
        evicted: Callable[[Stored], None],
        *,
        spill: bool = True,
        spill_limit_bytes: int = 0,
    ) -> None:
        """Empty.

        Args:
            capacity_bytes: of the arena.
            effects: what is to be done is appended here.
            evicted: told of each unpinned object that is dropped, before its memory is taken.
            spill: whether objects may go to the disk.
            spill_limit_bytes: of the spill file; 0 for none.
        """
        self.memory = Allocator(capacity_bytes)
        self.disk = Allocator((spill_limit_bytes or _NO_LIMIT_BYTES) if spill else 0, _DISK_BLOCK_BYTES)
        #: {serial: object} that want to be in memory, first come first.
        self.waiting: dict[int, Stored] = {}
        #: {serial: object} whose memory may be taken, least recently used first: what is unpinned, what the disk has
        #: too, and what it has not.
        self.loose: dict[int, Stored] = {}
        self.copied: dict[int, Stored] = {}
        self.idle: dict[int, Stored] = {}
        #: Bytes of the arena that the first two of them have.
        self._droppable_bytes = 0
        #: Bytes whose only copy is on the disk.
        self.spilled_bytes = 0
        #: Bytes of the arena that are being written out.
        self._leaving_bytes = 0
        self._effects = effects
        self._evicted = evicted
        #: What is known of each grain of the arena.
        self._grains = bytearray(-(-self.memory.capacity // GRAIN_BYTES))
        #: Whether ``rest`` may find something.
        self.may_rest = False

    def fits(self, nbytes: int) -> bool:
        """Whether an empty arena would take it."""
        return self.memory.size_of(nbytes + HEAD_BYTES) <= self.memory.capacity

    def touch(self, offset: int, nbytes: int) -> bool:
        """Note that these bytes are used now; returns whether some of their pages are new."""
        first, end = offset // GRAIN_BYTES, -(-(offset + nbytes + HEAD_BYTES) // GRAIN_BYTES)
        cold = _COLD in self._grains[first:end]
        self._grains[first:end] = bytes((_HOT,)) * (end - first)
        return cold

    def rest(self) -> list[tuple[int, int]]:
        """Parts of the arena, ``(offset, size)``, that are free, have pages, and were not used since the last call.

        They count as without pages from now on. ``may_rest`` is False if there are no more until something is freed.
        """
        parts = []
        self.may_rest = False
        for offset, size in self.memory.free_blocks().items():
            first, end = -(-offset // GRAIN_BYTES), (offset + size) // GRAIN_BYTES
            grains = bytes(self._grains[first:end])
            for run in re.finditer(bytes((_WARM,)) + b"+", grains):
                parts.append(((first + run.start()) * GRAIN_BYTES, (run.end() - run.start()) * GRAIN_BYTES))
            self._grains[first:end] = grains.translate(_COOLER)
            self.may_rest = self.may_rest or _HOT in grains
        return parts

    def settle(self, entry: Stored) -> None:
        """To be called when anything has changed that decides whether its memory may be taken."""
        self._unlist(entry)
        if not entry.is_idle:
            return
        group = self.loose if not entry.pinned else self.idle if entry.place is None else self.copied
        group[entry.serial] = entry
        if group is not self.idle:
            self._droppable_bytes += self._size(entry)

    def want(self, entry: Stored, deadline: float) -> None:
        """Queue it for memory."""
        entry.deadline = deadline
        entry.disk_refused = False
        self.waiting[entry.serial] = entry

    def forget(self, entry: Stored) -> None:
        """Free what it has, unless the disk is at it; nobody uses it any more."""
        self.waiting.pop(entry.serial, None)
        self._unlist(entry)
        if entry.moving == STILL:
            self._leave_memory(entry)
            self._leave_disk(entry)

    def grant(self) -> list[Stored]:
        """Give memory to the objects that wait, as far as there is any, and start to make more. Returns those."""
        granted = []
        for entry in list(self.waiting.values()):
            if self._enter(entry) or self._enter_after_dropping(entry):
                del self.waiting[entry.serial]
                granted.append(entry)
        for entry in self.waiting.values():
            if not entry.disk_refused:
                self._write_out_for(entry)
            if not entry.disk_refused:
                break
        return granted

    def bring_in(self, entry: Stored) -> None:
        """Start to read it into the memory that it was granted."""
        assert entry.offset is not None
        assert entry.place is not None
        entry.moving = COMES_IN
        self.touch(entry.offset, entry.nbytes)
        self._effects.append(
            ReadBack(entry.serial, entry.offset + HEAD_BYTES, entry.nbytes, entry.place, entry.checksum)
        )

    def brought_in(self, entry: Stored, *, ok: bool) -> None:
        """It is in memory; or what the disk has is not what was written, and it is nowhere."""
        entry.moving = STILL
        self.spilled_bytes -= entry.nbytes
        if not ok:
            self._leave_disk(entry)
            self._leave_memory(entry)

    def written_out(self, entry: Stored, *, ok: bool) -> None:
        """The copy on the disk is complete; or it is not, and the object stays. Held objects stay as well."""
        entry.moving = STILL
        self._leaving_bytes -= self._size(entry)
        if not ok:
            self._trim(entry)
            for waiting in self.waiting.values():
                waiting.disk_refused = True
        elif not entry.holders and not entry.deleted and entry.pinned:
            self._leave_memory(entry)

    @property
    def is_writing(self) -> bool:
        """Whether objects are under way to the disk, so that there will be room."""
        return self._leaving_bytes > 0

    def _enter(self, entry: Stored) -> bool:
        entry.offset = self.memory.allocate(entry.nbytes + HEAD_BYTES)
        return entry.offset is not None

    def _enter_after_dropping(self, entry: Stored) -> bool:
        """Drop what need not be written first, if that is enough."""
        size = self._size(entry)
        if self._free_bytes + self._droppable_bytes < size:
            return False
        for victim in [*self.loose.values(), *self.copied.values()]:
            if victim.pinned:
                self._unlist(victim)
                self._leave_memory(victim)
            else:
                self._evicted(victim)
            if self._free_bytes >= size and self._enter(entry):
                return True
        return False

    def _write_out_for(self, entry: Stored) -> None:
        """Write objects out until as much is under way as is needed."""
        size = self._size(entry)
        while self._leaving_bytes < size and self.idle:
            victim = next(iter(self.idle.values()))
            victim.place = self.disk.allocate(victim.nbytes)
            if victim.place is None:
                entry.disk_refused = self.disk.capacity > 0
                return
            assert victim.offset is not None
            self._unlist(victim)
            victim.moving = GOES_OUT
            self._leaving_bytes += self._size(victim)
            self._effects.append(WriteOut(victim.serial, victim.offset + HEAD_BYTES, victim.nbytes, victim.place))

    @property
    def _free_bytes(self) -> int:
        return self.memory.capacity - self.memory.used

    def _size(self, entry: Stored) -> int:
        return self.memory.size_of(entry.nbytes + HEAD_BYTES)

    def _unlist(self, entry: Stored) -> None:
        for group in (self.loose, self.copied):
            if group.pop(entry.serial, None) is not None:
                self._droppable_bytes -= self._size(entry)
        self.idle.pop(entry.serial, None)

    def _leave_memory(self, entry: Stored) -> None:
        if entry.offset is None:
            return
        self.memory.free(entry.offset)
        self.touch(entry.offset, entry.nbytes)
        self.may_rest = True
        entry.offset = None
        if entry.place is not None and entry.state == SEALED:
            self.spilled_bytes += entry.nbytes

    def _leave_disk(self, entry: Stored) -> None:
        if entry.place is not None:
            if entry.offset is None:
                self.spilled_bytes -= entry.nbytes
            self._trim(entry)

    def _trim(self, entry: Stored) -> None:
        assert entry.place is not None
        self._effects.append(Trim(entry.place, self.disk.free(entry.place)))
        entry.place = None
