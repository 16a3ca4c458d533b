"""Recalls, whatever the order in which owner, node manager and the threads of a worker get their turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from random import Random

import pytest

from ray.protocol.run_slot import SLOT_BYTES, OpenRecall, RunSlot

ROUNDS = 400


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


def make_slot() -> RunSlot:
    return RunSlot(memoryview(bytearray(SLOT_BYTES)))


class Worker:
    """The two threads of a worker: each ``yield`` is a point where the other one, or a stop, may come in between."""

    def __init__(self, slot: RunSlot) -> None:
        self.slot = slot
        self.inbox: deque[tuple[str, list[bytes]]] = deque()
        self.outbox: deque[tuple[str, list[bytes]]] = deque()
        #: A task may come again while what it was before is in the lane still.
        self.queued: dict[bytes, list[bytes]] = {}
        self.lane: deque[list[bytes]] = deque()
        self.running: bytes | None = None
        self.started = bytes(16)
        #: The one that runs asks to be retried.
        self.comes_again = False
        self.ran: list[bytes] = []

    def main(self) -> Iterator[None]:
        while True:
            yield
            if not self.lane:
                continue
            call = self.lane.popleft()
            task = call[0]
            yield
            self.running = task
            yield
            if self.queued.get(task) is not call:
                self.running = None
                continue
            yield
            self.slot.memory[:16] = task
            yield
            if not self.slot.may_start(task):
                yield
                self.queued.pop(task, None)
            yield
            if self.queued.pop(task, None) is None:
                yield
                self.slot.memory[:16] = self.started
                yield
                self.running = None
                continue
            self.started = task
            self.ran.append(task)
            yield
            yield
            if self.comes_again:
                self.comes_again = False
                self.ran.pop()
                self.outbox.append(("failed", [task]))
            else:
                self.outbox.append(("done", [task]))
            self.running = None

    def reader(self) -> Iterator[None]:
        while True:
            yield
            if not self.inbox:
                continue
            kind, ids = self.inbox.popleft()
            if kind == "push":
                for id in ids:
                    self.queued[id] = [id]
                    self.lane.append(self.queued[id])
                continue
            back = list(self.queued)[0 if self.running and self.running not in self.queued else 1 :]
            yield
            given = [id for id in back if self.queued.pop(id, None) is not None]
            yield from self.decision()
            self.outbox.append(("returned", [ids[0], *given]))
            yield
            exempt = self.slot.handled(ids[0])
            yield
            if exempt is not None:
                for id in list(self.queued):
                    if id != exempt:
                        self.queued.pop(id, None)
                yield from self.decision()
                self.slot.settled()
                yield
                self.outbox.append(("settled", ids))

    def decision(self) -> Iterator[None]:
        yield
        while self.running not in (None, self.started):
            yield


class Owner:
    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.inflight: dict[bytes, None] = {}
        self.recall: OpenRecall | None = None
        self.asked: list[bytes] = []
        self.from_node: deque[tuple[bytes, bytes | None]] = deque()
        self.done: list[bytes] = []
        self.taken: list[bytes] = []
        self.failed: list[bytes] = []
        self._next = 0
        self._recalls = 0

    def push(self, count: int) -> None:
        if self.recall is None:
            ids = [name(self._next + index + 1) for index in range(count)]
            self._next += count
            ids += self.taken  # those are as likely to come back as to go elsewhere
            self.taken = []
            if not self.inflight:
                ids, self.failed = self.failed[:1] + ids, self.failed[1:]
            self.inflight.update(dict.fromkeys(ids))
            self.worker.inbox.append(("push", ids))

    def start_recall(self) -> None:
        if self.recall is None and len(self.inflight) > 1:
            self._recalls += 1
            self.recall = OpenRecall(name(10**6 + self._recalls), self.inflight)
            self.worker.inbox.append(("recall", [self.recall.id]))

    def ask_node(self) -> None:
        if self.recall is not None and not (self.recall.asked or self.recall.answered or self.recall.exempt):
            self.recall.asked = True
            self.asked.append(self.recall.id)

    def hear_worker(self) -> None:
        if not self.worker.outbox:
            return
        kind, ids = self.worker.outbox.popleft()
        if kind == "done":
            assert ids[0] in self.inflight, "a reply for a task that was taken back: it ran twice"
            del self.inflight[ids[0]]
            self.done.append(ids[0])
            return
        if kind == "failed":
            assert ids[0] in self.inflight
            del self.inflight[ids[0]]
            self.failed.append(ids[0])
            return
        self._take(ids[1:])
        assert self.recall is not None
        assert self.recall.id == ids[0]
        self.recall.answered = True
        self.recall.settled = kind == "settled"
        self._settle()

    def hear_node(self) -> None:
        if self.from_node:
            recall, exempt = self.from_node.popleft()
            assert self.recall is not None
            assert self.recall.id == recall
            self.recall.asked = False
            if exempt is not None:
                self._take(self.recall.put_in_force(exempt))
            self._settle()

    def _take(self, ids: list[bytes]) -> None:
        for id in ids:
            if id in self.inflight:
                del self.inflight[id]
                self.taken.append(id)

    def _settle(self) -> None:
        if self.recall is not None and self.recall.ended:
            self.recall = None

    @property
    def pushed(self) -> int:
        return self._next


MOVES = ["push", "fail", "recall", "ask", "node", "hear worker", "hear node", "main", "reader"]


class System:
    def __init__(self) -> None:
        self.worker = Worker(make_slot())
        self.owner = Owner(self.worker)
        self._main, self._reader = self.worker.main(), self.worker.reader()

    def move(self, kind: str) -> None:
        owner = self.owner
        match kind:
            case "push":
                owner.push(3)
            case "fail":
                self.worker.comes_again = True
            case "recall":
                owner.start_recall()
            case "ask":
                owner.ask_node()
            case "node":  # the worker stands still
                if owner.asked:
                    recall = owner.asked.pop(0)
                    owner.from_node.append((recall, self.worker.slot.revoke(recall)))
            case "hear worker":
                owner.hear_worker()
            case "hear node":
                owner.hear_node()
            case "main":
                next(self._main)
            case "reader":
                next(self._reader)

    def settle(self) -> None:
        for _ in range(20 * (self.owner.pushed + 20)):
            for kind in ("main", "reader", "node", "hear worker", "hear node"):
                self.move(kind)
            if not (self.owner.inflight or self.owner.recall):
                break
        owner = self.owner
        assert owner.recall is None, "a recall without an end: the worker gets no task any more"
        assert not owner.inflight, "tasks that nobody runs"
        everything = [name(number + 1) for number in range(owner.pushed)]
        assert sorted(owner.done + owner.taken + owner.failed) == everything
        assert self.worker.ran == owner.done, "the worker ran what was taken back"


#: Threads that get few turns, or many: what one does in a row, and what comes in between.
WEIGHTS = [
    dict(zip(MOVES, weights, strict=True))
    for weights in ([1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 2, 2, 2, 4, 4, 3, 12], [1, 1, 2, 2, 2, 4, 4, 12, 3])
]


@pytest.mark.parametrize("weights", WEIGHTS, ids=["even", "quick reader", "quick main thread"])
def test_each_task_is_run_once_here_or_given_back(weights: dict[str, int]) -> None:
    for seed in range(ROUNDS):
        random = Random(seed)
        system = System()
        for kind in random.choices(MOVES, list(weights.values()), k=150):
            system.move(kind)
        system.settle()


def after(*moves: str) -> System:
    system = System()
    for kind in moves:
        system.move(kind)
    return system


RECEIVED = ("push", "reader", "reader")
BEGUN = (*RECEIVED, *["main"] * 7)


@pytest.mark.parametrize("main_steps", range(9))
@pytest.mark.parametrize("reader_steps", range(9))
@pytest.mark.parametrize("received", [RECEIVED, BEGUN])
def test_the_look_at_every_step_of_both_threads(received: tuple[str, ...], main_steps: int, reader_steps: int) -> None:
    for order in (("main", "reader"), ("reader", "main")):
        steps = {"main": main_steps, "reader": reader_steps}
        first = [kind for kind in order for _ in range(steps[kind])]
        after(*received, "recall", "ask", *first, "node").settle()


def test_the_task_that_runs_is_spared_and_the_rest_revoked() -> None:
    system = after(*BEGUN, "recall", "ask", "node", "hear node")
    assert list(system.owner.inflight) == [name(1)]
    assert system.owner.taken == [name(2), name(3)]
    assert system.owner.recall is not None, "it gets nothing before it has answered"
    system.settle()


def test_nothing_is_revoked_once_the_worker_has_answered() -> None:
    slot = make_slot()
    slot.memory[:16] = name(1)
    assert slot.handled(name(9)) is None
    assert slot.revoke(name(9)) is None
    assert slot.may_start(name(2))


def test_what_ended_meanwhile_is_still_told_as_started_last() -> None:
    slot = make_slot()
    assert slot.revoke(name(9)) == bytes(16)
    slot.settled()
    slot.memory[:16] = name(1)
    assert slot.revoke(name(8)) == name(1)
    assert slot.may_start(name(1))
    assert not slot.may_start(name(2))
    assert slot.handled(name(8)) == name(1)
    assert not slot.may_start(name(2)), "not before the rest is dropped"
    slot.settled()
    assert slot.may_start(name(2))
