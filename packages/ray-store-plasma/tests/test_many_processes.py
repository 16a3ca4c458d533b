"""Several processes make, read, hold, drop and delete objects of each other in a store that is too small for them."""

from __future__ import annotations

import contextlib
import os
import random
import time
import traceback

import pytest

from ray.exceptions import ObjectExistsError, ObjectStoreFullError
from ray_store_plasma.client import PlasmaStore

from .conftest import StartNode, an_id

PROCESSES = 4
IDS = 40


def content(number: int, nbytes: int) -> bytes:
    return (b"%d:%d|" % (number, nbytes) * (nbytes // 4 + 1))[:nbytes]


def work(address: str, seed: int, seconds: float) -> None:
    """Whatever is read must be what was written under that id, for as long as it is looked at."""
    chance = random.Random(seed)
    store = PlasmaStore(address)
    kept: list[tuple[int, memoryview]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number = chance.randrange(IDS)
        match chance.randrange(8):
            case 0 | 1 | 2:
                data = content(number, chance.choice([10, 5000, 200_000, 900_000]))
                with contextlib.suppress(ObjectExistsError, ObjectStoreFullError):
                    store.put(an_id(number), [data], len(data))
            case 3 | 4 | 5:
                view = None
                with contextlib.suppress(ObjectStoreFullError):
                    view = store.get(an_id(number))
                if view is not None:
                    assert view == content(number, len(view)), "wrong bytes"
                    if chance.random() < 0.3 and len(kept) < 3:
                        kept.append((number, view[len(view) // 2 :]))
                    del view
                    store.release(an_id(number))
            case 6:
                store.delete(an_id(number))
            case 7 if kept:
                number, part = kept.pop(chance.randrange(len(kept)))
                assert any(part == content(number, size)[size // 2 :] for size in (10, 5000, 200_000, 900_000))
                del part
    kept.clear()
    if seed % 2:  # the others are just gone
        store.close()


@pytest.mark.parametrize("seconds", [2.0, pytest.param(60.0, marks=[pytest.mark.soak, pytest.mark.timeout(300)])])
def test_nobody_ever_reads_wrong_bytes(start: StartNode, seconds: float) -> None:
    node = start(4 * 1024 * 1024, full_timeout_s=0.05)
    pids = []
    for seed in range(PROCESSES):
        pid = os.fork()
        if not pid:
            try:
                work(node.server.address, seed, seconds)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        pids.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    assert statuses == [0] * PROCESSES
    store = node.connect()
    for row in store.list():
        assert row.holders == ()
        view = store.get(row.object_id)
        assert view is not None
        assert view == content(int.from_bytes(row.object_id[-4:], "big"), row.nbytes)
        del view
        store.release(row.object_id)
        store.delete(row.object_id)
    stats = store.stats()
    assert (stats.objects, stats.used_bytes, stats.spilled_bytes) == (0, 0, 0)
