"""What becomes of the objects of a driver is what the table of transitions says."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

import ray
from ray.exceptions import RayError
from ray.protocol.references import FAILED, PENDING, READY, STORED, TRANSITIONS, ObjectEntry
from ray.testing import inside

TIMEOUT_S = 20
BIG = b"x" * 300_000
#: The step that takes an object of a stream adds the entry that comes next: see ``references``.
OF_STREAMS = "on_yielded"

Seen = dict[tuple[int | None, int], set[str]]


class Watched:
    """Stands for the slot of the status, and notes what changes it."""

    def __init__(self, slot: Any, seen: Seen) -> None:
        self._slot = slot
        self._seen = seen

    def __get__(self, entry: ObjectEntry | None, cls: type) -> Any:
        return self if entry is None else self._slot.__get__(entry, cls)

    def __set__(self, entry: ObjectEntry, status: int) -> None:
        frame = sys._getframe(1)
        is_new = frame.f_code.co_name == "__init__"
        if is_new or status == STORED:  # for both there is a method around the one that does it
            frame = frame.f_back or frame
        by = frame.f_code.co_name
        if not (is_new and by == "put"):  # which makes it ready at once
            self._seen[None if is_new or by == "put" else entry.status, status].add(by)
        self._slot.__set__(entry, status)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen: Seen = defaultdict(set)
    monkeypatch.setattr(ObjectEntry, "status", Watched(vars(ObjectEntry)["status"], seen))
    return seen


@ray.remote
def give(value: Any) -> Any:
    return value


@ray.remote
def fail() -> None:
    raise ValueError("mine")


@ray.remote
def put() -> list[ray.ObjectRef[Any]]:
    return [ray.put(1), fail.remote(), ray.put(BIG)]


@ray.remote
class Counter:
    def count(self, most: int) -> Iterator[int]:
        yield from range(most)


def use_everything() -> None:
    refs = [ray.put(1), ray.put(BIG), ray.put([ray.put(2)]), give.remote(1), give.remote(BIG), fail.remote()]
    refs += [give.remote(refs[0]), give.remote([refs[1]]), give.remote(refs[-1])]
    refs += ray.get(put.remote(), timeout=TIMEOUT_S)
    for ref in refs:
        try:
            ray.get(ref, timeout=TIMEOUT_S)
        except RayError:
            pass
    counter = Counter.remote()
    stream = counter.count.options(num_returns="streaming").remote(5)
    assert [ray.get(ref, timeout=TIMEOUT_S) for ref in stream] == list(range(5))
    never = give.remote(give.options(resources={"none": 1}).remote(1))
    ray.cancel(never)
    ray.wait([ray.ObjectRef(bytes(len(refs[0].binary())))], timeout=TIMEOUT_S)
    del refs, never


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("local_mode", [False, True], ids=["processes", "local_mode"])
def test_statuses_follow_each_other_as_the_table_of_transitions_says(seen: Seen, local_mode: bool) -> None:
    with ray.init(num_cpus=2, log_to_driver=False, local_mode=local_mode):
        use_everything()
        statuses = {PENDING, READY, FAILED}
        if not local_mode:
            inside.settled()
            statuses |= {STORED} if inside.shares_memory() else set()
        ray.put(1)._entry.table.validate()
    assert OF_STREAMS in seen[None, PENDING] or local_mode
    seen[None, PENDING].discard(OF_STREAMS)
    unknown = {change: by - {*TRANSITIONS.get(change, ())} for change, by in seen.items()}
    assert not any(unknown.values()), unknown
    assert {status for _, status in seen} >= statuses
