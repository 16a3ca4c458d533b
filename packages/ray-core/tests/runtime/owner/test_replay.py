"""The table of tasks decides the same without its shell: a session with deaths is recorded, and its events replayed."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import time
from collections import deque
from types import SimpleNamespace

import pytest

import ray
from ray.protocol import task_effects as effects
from ray.protocol.recalls import Recalls
from ray.protocol.run_time import RunTime
from ray.protocol.task_records import Lease, SchedulingClass
from ray.protocol.tasks import TaskTable
from ray.runtime import interface
from ray.runtime.owner.outcomes import Outcomes
from ray.runtime.owner.records import TaskRecord

TASKS, KILLS = 10_000, 6
#: What the shell calls, and what it changes by other calls.
CALLED = {
    TaskTable: (
        "enqueue", "pump", "granted", "reached", "revoked", "infeasible", "replied", "returned", "unblocked",
        "connection_lost", "lease_ended", "retry", "catch_up",
    ),
    Recalls: ("in_force",),
    Lease: ("ended",),
    RunTime: ("observe",),
}  # fmt: skip


def told(effect):
    """An effect by the names of what it is about."""
    match effect:
        case effects.Ask():
            return ("Ask", effect.cls.number, effect.cls.demanded)
        case effects.After():
            return ("After", effect.delay_s)
        case effects.Push():
            return ("Push", effect.lease.id, list(effect.lease.batch))
        case effects.Cancel() | effects.Crash() | effects.RunAgain():
            return (type(effect).__name__, effect.task.id)
        case _:
            return (type(effect).__name__, effect.lease.id)


class Out(deque):
    """Stands for ``TaskTable.out``: keeps a note of all that is appended."""

    def __init__(self, note):
        super().__init__()
        self.note = note

    def append(self, effect):
        self.note(effect)
        super().append(effect)


class Recorder:
    """Writes down what a table is told from outside, and what it decides."""

    def __init__(self, monkeypatch, table):
        self.events, self.decided, self.recalls = [], [], []
        self.timers = 0
        self.inside = False
        table.out = Out(self.decides)
        for cls, names in CALLED.items():
            for name in names:
                monkeypatch.setattr(cls, name, self.noted(name, getattr(cls, name)))
        for name in ("finish", "fail"):
            monkeypatch.setattr(Outcomes, name, self.ending(getattr(Outcomes, name)))

    def decides(self, effect):
        self.decided.append(told(effect))
        if type(effect) is effects.Recall:
            self.recalls.append(effect.recall.id)
        elif type(effect) is effects.After:
            effect.then = functools.partial(self.noted("due", effect.then), self.timers)
            self.timers += 1

    def noted(self, name, real):
        @functools.wraps(real)
        def call(*args, **facts):
            if self.inside:
                return real(*args, **facts)
            self.events.append((name, [plain(arg) for arg in args], facts))
            self.inside = True
            try:
                return real(*args, **facts) if name != "due" else real(args[1])
            finally:
                self.inside = False

        return call

    def ending(self, real):
        @functools.wraps(real)
        def end(outcomes, record, *args, **facts):
            found = real(outcomes, record, *args, **facts)
            if record.done:
                self.events.append(("done", [plain(record)], {}))
            return found

        return end


def plain(value):
    """What is known of a thing at this moment."""
    match value:
        case SchedulingClass():
            return ("class", value.number, value.resources, value.priority)
        case Lease():
            return ("lease", value.id)
        case TaskRecord():
            return ("task", value.id, value.attempt, value.retries, id(value.export.time))
        case RunTime():
            return ("time", id(value))
        case TaskTable() | Recalls():
            return type(value).__name__
        case _:
            return value


class Replay:
    """A table without a shell, which is told the same."""

    def __init__(self, recalls):
        self.decided, self.timers = [], []
        self.table = TaskTable(iter(recalls).__next__)
        self.table.out = Out(self.decides)
        self.tasks, self.times, self.leases = {}, {}, {}

    def decides(self, effect):
        self.decided.append(told(effect))
        if type(effect) is effects.After:
            self.timers.append(effect.then)

    def tell(self, name, args, facts):
        args = [self.revived(arg) for arg in args]
        if name == "due":
            self.timers[args[0]](args[1])
        elif name == "done":
            args[0].done = True
        else:
            found = getattr(args[0], name)(*args[1:], **facts)
            if name == "granted":
                self.leases[args[2]] = found
        for effect in self.table.out:
            if type(effect) is effects.Push:
                effect.lease.batch.clear()
        self.table.out.clear()

    def revived(self, value):
        match value:
            case ("class", number, resources, priority):
                made = SchedulingClass(number, resources, priority, 0)
                return self.table.classes.setdefault(number, made)
            case ("lease", id):
                return self.leases[id]
            case ("task", id, attempt, retries, time):
                if id not in self.tasks:
                    export = SimpleNamespace(time=self.revived(("time", time)))
                    self.tasks[id] = SimpleNamespace(
                        id=id, attempt=attempt, retries=retries, alone=False, done=False, cancelled=False, place=None,
                        export=export,
                    )  # fmt: skip
                    self.tasks[id].place = next(iter(self.table.classes.values()), None)
                return self.tasks[id]
            case ("time", id):
                return self.times.setdefault(id, RunTime())
            case "TaskTable":
                return self.table
            case "Recalls":
                return self.table.recalls
            case _:
                return value


@ray.remote(max_retries=-1)
def work(number):
    if number % 500 == 0:
        time.sleep(0.02)
    return os.getpid()


def test_the_same_decisions_without_a_shell(monkeypatch):
    rng = random.Random(1)
    with ray.init(num_cpus=2, log_to_driver=False):
        runtime = interface.current()
        recorder = Recorder(monkeypatch, runtime.leasing.tasks)
        refs = [work.remote(number) for number in range(TASKS)]
        for kill in range(KILLS):
            pid = ray.get(refs[TASKS * (kill + 1) // (KILLS + 2) + rng.randrange(TASKS // 20)], timeout=50)
            with contextlib.suppress(ProcessLookupError):  # it has been killed before
                os.kill(pid, signal.SIGKILL)
        assert len(ray.get(refs, timeout=50)) == TASKS
        with runtime.lock:
            events, decided = list(recorder.events), list(recorder.decided)
    assert sum(name == "lease_ended" for name, _, _ in events) >= 2
    replay = Replay(recorder.recalls)
    for event in events:
        replay.tell(*event)
    assert len(decided) > 100
    assert replay.decided == decided
    replay.table.validate()


@pytest.mark.parametrize("lost", ["replied", "lease_ended"])
def test_an_event_that_is_left_out_shows(monkeypatch, lost):
    """Else the comparison says nothing."""
    with ray.init(num_cpus=1, log_to_driver=False):
        runtime = interface.current()
        recorder = Recorder(monkeypatch, runtime.leasing.tasks)
        pid = ray.get([work.remote(1) for _ in range(100)], timeout=50)[-1]
        running = work.remote(500)
        os.kill(pid, signal.SIGKILL)
        ray.get([running, *(work.remote(1) for _ in range(100))], timeout=50)
        with runtime.lock:
            events, decided = list(recorder.events), list(recorder.decided)
    left_out = next(index for index, event in enumerate(events) if event[0] == lost)
    replay = Replay(recorder.recalls)
    try:
        for event in events[:left_out] + events[left_out + 1 :]:
            replay.tell(*event)
    except (KeyError, IndexError):
        return
    assert replay.decided != decided
