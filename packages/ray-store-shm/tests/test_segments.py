"""Named segments where names cannot be listed, and where segments can only be mapped."""

from __future__ import annotations

import itertools
import os
import sys

import pytest

from ray_store_shm.segments import NamedSegments


@pytest.mark.skipif(sys.platform != "linux", reason="names are listed on Linux only")
def test_a_name_that_another_left_is_not_in_the_way(monkeypatch):
    monkeypatch.setattr(NamedSegments, "_numbers", itertools.count(1))
    left = f"/dev/shm/ray-left-{os.getpid()}-1"
    with open(left, "w"):
        pass
    try:
        kind = NamedSegments("/ray-left")
        kind.discard(kind.make(10))
        assert os.path.exists(left), "it may be another container's"
    finally:
        os.unlink(left)


@pytest.mark.parametrize("nbytes", [0, 1, 4096, 10_000])
def test_segments_that_take_no_writes_are_mapped(nbytes):
    kind = NamedSegments("/ray-mapped", takes_writes=False)
    data = os.urandom(nbytes)
    fd = kind.make(nbytes)
    assert kind.write(fd, [data[:7], b"", memoryview(data)[7:]]) == nbytes
    assert kind.write(fd, [bytes(1 << 20)]) == 1 << 20, "more than there is room for; nothing is written"
    sealed = kind.seal(fd)
    assert os.pread(sealed, nbytes + 1, 0)[:nbytes] == data
    os.close(sealed)
