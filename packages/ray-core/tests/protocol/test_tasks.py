"""The table of an owner's tasks, alone: events and times go in, effects come out."""

from __future__ import annotations

from itertools import count

import pytest

from ray.messages.node import ExitCause
from ray.protocol import task_effects as effects
from ray.protocol.recalls import BUSY_S, STALL_S
from ray.protocol.run_time import PIPELINE_TASKS
from ray.protocol.task_records import SLICE_S, SchedulingClass
from ray.protocol.tasks import IDLE_HOLD_S, LAST_WORDS_S, MAX_DEMAND, MAX_RETRY_S, TaskTable
from ray.testing.simulated_task import SimulatedFunction, SimulatedTask


class Owner:
    """A table, the time, and what stands for its shell."""

    def __init__(self):
        numbers = count(1)
        self.new_id = lambda: b"id %d" % next(numbers)
        self.table = TaskTable(self.new_id)
        self.now = 0.0
        self.timers = []
        #: All that was to be done, and the ids of tasks by pushes to each lease.
        self.told, self.pushed = [], {}
        self.function = SimulatedFunction()

    def cls(self, number=1, cpus=1, priority=0):
        made = SchedulingClass(number, {"CPU": cpus}, priority, 0)
        return self.table.classes.setdefault(number, made)

    def submit(self, cls=None, retries=0, name=None):
        cls = cls or self.cls()
        task = SimulatedTask(name or self.new_id(), self.function, None, retries)
        task.place = cls
        if self.table.enqueue(cls, task):
            self.table.pump(cls, self.now)
        self.carry_out()
        return task

    def grant(self, id=b"lease", number=1):
        lease = self.table.granted(number, id, self.now)
        self.table.reached(lease, self.now)
        self.carry_out()
        return lease

    def reply(self, lease, *tasks, us=1_000, **facts):
        for task in tasks:
            assert lease.ended(task.id) is task
            task.export.time.observe(us)
            task.done = True
        self.table.replied(lease, facts.pop("returned", ()), self.now, exiting=facts.pop("exiting", False))
        self.carry_out()

    def dies(self, id=b"lease", **facts):
        self.table.lease_ended(id, ExitCause(signal=9, **facts), self.now)
        self.carry_out()

    def passes(self, seconds):
        end = self.now + seconds
        while self.timers and min(self.timers, key=lambda timer: timer[0])[0] <= end:
            timer = min(self.timers, key=lambda timer: timer[0])
            self.timers.remove(timer)
            self.now = max(self.now, timer[0])
            timer[1](self.now)
            self.carry_out()
        self.now = end

    def carry_out(self):
        out = self.table.out
        while out:
            effect = out.popleft()
            self.told.append(effect)
            if type(effect) is effects.After:
                self.timers.append((self.now + effect.delay_s, effect.then))
            elif type(effect) is effects.Push:
                self.pushed.setdefault(effect.lease.id, []).append(list(effect.lease.batch))
                effect.lease.batch.clear()
            elif type(effect) in (effects.Crash, effects.Cancel):
                effect.task.done = True
        self.table.validate()

    def said(self, kind):
        return [effect for effect in self.told if type(effect) is kind]


@pytest.fixture
def owner():
    return Owner()


def short(owner):
    """The function is known to be short."""
    owner.function.time.observe(5)


# --- queues and pushes ------------------------------------------------------------------------------------------------


def test_a_task_asks_for_a_worker_and_is_pushed_to_it(owner):
    task = owner.submit()
    assert [(effect.cls.number, effect.cls.demanded) for effect in owner.said(effects.Ask)] == [(1, 1)]
    lease = owner.grant()
    assert owner.pushed == {b"lease": [[task.id]]}
    assert task.place is lease
    owner.reply(lease, task)
    assert owner.table.tasks() == []


def test_one_task_at_a_time_until_the_run_time_is_known(owner):
    tasks = [owner.submit() for _ in range(40)]
    lease = owner.grant()
    assert owner.pushed[b"lease"] == [[tasks[0].id]]
    owner.reply(lease, tasks[0], us=5)
    assert owner.pushed[b"lease"][1] == [task.id for task in tasks[1:]]


def test_no_more_at_a_time_than_a_few_milliseconds_take(owner):
    owner.function.time.observe(1_000)
    tasks = [owner.submit() for _ in range(12)]
    owner.grant()
    assert owner.pushed[b"lease"] == [[task.id for task in tasks[:5]]]


def test_short_tasks_are_shared_between_workers(owner):
    short(owner)
    for _ in range(64):
        owner.submit()
    owner.grant(b"one")
    owner.grant(b"two")
    assert len(owner.pushed[b"one"][0]) == 64
    for _ in range(64):
        owner.submit()
    assert len(owner.pushed[b"two"]) >= 1


def test_of_idle_workers_the_one_with_the_arguments_is_taken(owner):
    near = owner.table.classes.setdefault(1, SchedulingClass(1, {"CPU": 1}, 0, 0, near=b"far1"))
    first = [owner.submit(near), owner.submit(near)]
    leases = [owner.grant(b"far2lease"), owner.grant(b"far1lease")]
    for lease, task in zip(leases, first, strict=True):
        owner.reply(lease, task)
    task = owner.submit(near)
    assert task.place is leases[1]


def busy(owner, *names):
    """Workers that each have a task, and a function that is known to be short."""
    owner.function.time.observe(100_000)
    tasks = {name: owner.submit() for name in names}
    leases = [owner.grant(name) for name in names]
    owner.function.time.mean_us = 5.0
    return [(lease, tasks[lease.id]) for lease in leases]


def test_a_reply_looks_at_no_other_worker(owner, monkeypatch):
    (one, first), (two, _) = busy(owner, b"one", b"two")
    owner.table.enqueue(owner.cls(), SimulatedTask(b"1", owner.function, None, 0))
    owner.table.enqueue(owner.cls(), SimulatedTask(b"2", owner.function, None, 0))
    monkeypatch.setattr(SchedulingClass, "open_leases", None)
    for task in owner.cls().queue:
        task.place = owner.cls()
    owner.reply(one, first, us=5)
    assert owner.pushed[b"one"][1:] == [[b"1"]]
    assert len(owner.pushed[b"two"]) == len(two.inflight) == 1


def test_a_reply_brings_no_more_than_a_share(owner):
    workers = busy(owner, b"one", b"two", b"three")
    tasks = [SimulatedTask(owner.new_id(), owner.function, None, 0) for _ in range(60)]
    for task in tasks:
        task.place = owner.cls()
    owner.cls().queue.extend(tasks)
    for lease, first in reversed(workers):
        owner.reply(lease, first, us=5)
    assert [len(owner.pushed[name][1]) for name in (b"three", b"two", b"one")] == [20, 14, 9]


def test_a_reply_of_a_worker_that_is_wanted_back_brings_nothing(owner):
    (lease, first), _ = busy(owner, b"one", b"two")
    owner.table.enqueue(owner.cls(), SimulatedTask(b"next", owner.function, None, 0))
    owner.cls().queue[0].place = owner.cls()
    owner.table.revoked(b"one", owner.now, soft=False)
    owner.reply(lease, first, us=5)
    assert len(owner.pushed[b"one"]) == 1
    assert owner.said(effects.Release)


@pytest.mark.parametrize("exiting", [False, True])
def test_what_a_reply_gives_back_goes_to_an_idle_worker(owner, exiting):
    short(owner)
    tasks = [owner.submit() for _ in range(3)]
    one = owner.grant(b"one")
    owner.grant(b"idle")
    returned = () if exiting else [task.id for task in tasks[1:]]
    if not exiting:
        one.recall = True  # it gets nothing
    owner.reply(one, tasks[0], us=5, returned=returned, exiting=exiting)
    assert owner.pushed[b"idle"] == [[task.id for task in tasks[1:]]]


def test_no_worker_has_more_than_so_many(owner):
    short(owner)
    for _ in range(PIPELINE_TASKS + 100):
        owner.submit()
    owner.grant()
    assert sum(map(len, owner.pushed[b"lease"])) == PIPELINE_TASKS


def test_the_demand_has_a_limit(owner):
    cls = owner.cls()
    for _ in range(MAX_DEMAND + 5):
        owner.table.enqueue(cls, SimulatedTask(owner.new_id(), owner.function, None, 0))
    for task in cls.queue:
        task.place = cls
    owner.table.pump(cls, 0.0)
    owner.carry_out()
    assert cls.demanded == MAX_DEMAND


def test_nobody_asks_for_what_has_been_cancelled(owner):
    task = owner.submit()
    task.done = True
    owner.table.pump(owner.cls(), 0.0)
    owner.carry_out()
    assert owner.cls().demanded == 0
    assert len(owner.said(effects.Ask)) == 2


def test_a_retried_task_is_pushed_alone(owner):
    short(owner)
    tasks = [owner.submit(retries=1) for _ in range(3)]
    lease = owner.grant()
    owner.table.retry(lease, lease.ended(tasks[0].id), 0.0)
    owner.carry_out()
    assert owner.pushed[b"lease"] == [[task.id for task in tasks]]  # not behind the others
    owner.reply(lease, *tasks[1:], us=5)
    assert owner.pushed[b"lease"][1] == [tasks[0].id]


def test_what_could_not_be_sent_goes_first_next_time(owner):
    short(owner)
    first = [owner.submit() for _ in range(3)]
    lease = owner.grant()
    taken = [lease.inflight.pop(task.id) for task in first]
    owner.table.unsent(lease, taken[1:])
    first[0].done = True
    later = SimulatedTask(b"later", owner.function, None, 0)
    later.place = owner.cls()
    owner.table.enqueue(owner.cls(), later)
    owner.table.out.popleft().then(0.0)
    owner.carry_out()
    assert owner.pushed[b"lease"][-1] == [first[1].id, first[2].id, later.id]


@pytest.mark.parametrize("how", ["withdrawn", "unsent"])
def test_a_worker_is_given_back_where_nothing_could_be_sent(owner, how):
    task = owner.submit()
    lease = owner.grant()
    task.done = True
    if how == "withdrawn":
        owner.table.withdrawn(lease, task)
    else:
        del lease.inflight[task.id]
        owner.table.unsent(lease, [])
    owner.carry_out()
    owner.passes(2 * IDLE_HOLD_S)
    assert owner.table.leases == {}


# --- leases -----------------------------------------------------------------------------------------------------------


def test_an_idle_worker_is_kept_for_a_moment(owner):
    task = owner.submit()
    lease = owner.grant()
    owner.reply(lease, task)
    owner.passes(IDLE_HOLD_S * 0.9)
    assert not owner.said(effects.Release)
    owner.passes(IDLE_HOLD_S)
    assert [(effect.lease, effect.retired) for effect in owner.said(effects.Release)] == [(lease, False)]
    assert owner.table.leases == {}


def test_a_worker_that_others_want_is_released_at_once(owner):
    task = owner.submit()
    lease = owner.grant()
    owner.table.revoked(b"lease", owner.now, soft=True)
    owner.carry_out()
    assert not owner.said(effects.Release)
    owner.reply(lease, task)
    assert owner.said(effects.Release)


def test_an_idle_worker_of_one_class_makes_room_for_another_class(owner):
    task = owner.submit()
    owner.reply(owner.grant(), task)
    owner.submit(owner.cls(2, cpus=2))
    assert [effect.lease.id for effect in owner.said(effects.Release)] == [b"lease"]


def test_a_class_that_has_had_its_slice_gives_way(owner):
    owner.function.time.observe(100_000)
    tasks = [owner.submit() for _ in range(10)]
    lease = owner.grant()
    owner.submit(owner.cls(2, cpus=2))
    owner.now = SLICE_S + 0.1
    owner.reply(lease, tasks[0], us=100_000)
    assert [effect.lease.id for effect in owner.said(effects.Release)] == [b"lease"]


def test_more_urgent_tasks_with_the_same_needs_take_the_worker(owner):
    owner.function.time.observe(100_000)
    tasks = [owner.submit() for _ in range(3)]
    lease = owner.grant()
    urgent = owner.submit(owner.cls(2, priority=1))
    owner.reply(lease, tasks[0], us=100_000)
    assert owner.said(effects.Release)
    owner.grant(b"other", 2)
    assert owner.pushed[b"other"] == [[urgent.id]]


def test_a_class_that_no_node_has_room_for_holds_up_nobody(owner):
    owner.submit(owner.cls(2, cpus=99))
    owner.table.infeasible(2, "needs 99 CPU", owner.now)
    task = owner.submit()
    lease = owner.grant()
    owner.reply(lease, task)
    assert not owner.said(effects.Release)
    assert owner.cls(2).lack == "needs 99 CPU"


def test_a_lease_is_granted_once(owner):
    owner.submit()
    lease = owner.grant()
    assert owner.table.granted(1, b"lease", 0.0) is lease  # a call that interrupts goes on with it
    owner.dies()
    owner.passes(LAST_WORDS_S)
    assert owner.table.granted(1, b"lease", 0.0) is None


def test_nothing_is_pushed_before_there_is_a_way_to_the_worker(owner):
    task = owner.submit()
    lease = owner.table.granted(1, b"lease", 0.0)
    owner.table.pump(owner.cls(), 0.0)
    owner.carry_out()
    assert owner.pushed == {}
    owner.table.reached(lease, 0.0)
    owner.carry_out()
    assert owner.pushed == {b"lease": [[task.id]]}


def test_a_pause_of_the_demand(owner):
    owner.submit()
    cls = owner.table.unreached(owner.table.granted(1, b"lease", 0.0))
    owner.table.pause(cls)
    owner.carry_out()
    asked = len(owner.said(effects.Ask))
    owner.submit()
    assert len(owner.said(effects.Ask)) == asked
    owner.table.go_on(cls, 1.0)
    owner.carry_out()
    assert cls.demanded == 2


# --- recalls ----------------------------------------------------------------------------------------------------------


def stalled(owner):
    """A worker with three tasks that does not answer."""
    short(owner)
    tasks = [owner.submit() for _ in range(3)]
    lease = owner.grant()
    owner.passes(STALL_S)
    (recall,) = owner.said(effects.Recall)
    return tasks, lease, recall.recall


def test_a_worker_that_does_not_get_on_is_asked_for_its_tasks(owner):
    tasks, lease, recall = stalled(owner)
    owner.table.returned(
        lease, [task.id for task in tasks[1:]], owner.now, blocked=False, recall=recall.id, settled=False
    )
    owner.carry_out()
    assert [task.id for task in owner.cls().queue] == [task.id for task in tasks[1:]]
    assert lease.recall is None
    owner.grant(b"other")
    assert owner.pushed[b"other"] == [[task.id for task in tasks[1:]]]


def test_the_node_manager_is_asked_where_the_worker_is_too_busy_to_answer(owner):
    tasks, lease, recall = stalled(owner)
    owner.passes(BUSY_S)
    assert [effect.recall for effect in owner.said(effects.Insist)] == [recall]
    owner.table.recalls.in_force(b"lease", recall.id, tasks[0].id, owner.now)
    owner.carry_out()
    assert list(lease.inflight) == [tasks[0].id]
    assert [task.alone for task in tasks] == [False, True, True]
    assert lease.recall is recall  # the worker has not answered


def test_a_worker_that_waits_gets_no_more(owner):
    task = owner.submit()
    lease = owner.grant()
    owner.table.returned(lease, (), owner.now, blocked=True, recall=b"", settled=False)
    other = owner.submit()
    assert owner.pushed[b"lease"] == [[task.id]]
    owner.reply(lease, task)
    assert not owner.said(effects.Release)
    owner.table.unblocked(lease, owner.now)
    owner.table.pump(owner.cls(), owner.now)
    owner.carry_out()
    assert owner.pushed[b"lease"][-1] == [other.id]


# --- ends -------------------------------------------------------------------------------------------------------------


def test_a_worker_that_dies_with_a_retry_left(owner):
    task = owner.submit(retries=2)
    owner.grant()
    owner.dies(running=task.id)
    owner.passes(LAST_WORDS_S)
    assert (task.attempt, task.retries) == (1, 1)
    assert [effect.task for effect in owner.said(effects.RunAgain)] == [task]
    owner.grant(b"other")
    assert owner.pushed[b"other"] == [[task.id]]


def test_later_retries_wait(owner):
    task = owner.submit(retries=-1)
    for attempt in range(1, 12):
        owner.grant(b"%d" % attempt)
        owner.dies(b"%d" % attempt, running=task.id)
        owner.passes(LAST_WORDS_S + 2 * MAX_RETRY_S)
        assert task.attempt == attempt
    pauses = [effect.delay_s for effect in owner.said(effects.After) if effect.delay_s not in (0.1, 0.05, LAST_WORDS_S)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_RETRY_S


def test_what_a_dead_worker_had_not_started_goes_elsewhere(owner):
    short(owner)
    tasks = [owner.submit() for _ in range(4)]
    lease = owner.grant()
    owner.dies(running=tasks[1].id)
    owner.passes(LAST_WORDS_S)
    assert [effect.task for effect in owner.said(effects.Crash)] == tasks[:2]
    assert [task.id for task in owner.cls().queue] == [task.id for task in tasks[2:]]
    assert [task.attempt for task in tasks] == [0, 0, 0, 0]
    assert lease.dead


def test_of_a_worker_that_nothing_is_known_of_any_task_may_have_started(owner):
    short(owner)
    tasks = [owner.submit() for _ in range(3)]
    owner.grant()
    owner.dies()
    owner.passes(LAST_WORDS_S)
    assert [effect.task for effect in owner.said(effects.Crash)] == tasks


def test_last_words_count(owner):
    task = owner.submit()
    lease = owner.grant()
    owner.dies(running=task.id)
    owner.reply(lease, task)
    owner.passes(LAST_WORDS_S)
    assert not owner.said(effects.Crash)
    assert owner.table.leases == {}


def test_a_lost_connection_is_a_suspicion(owner):
    task = owner.submit()
    lease = owner.grant()
    owner.table.connection_lost(lease, owner.now)
    owner.carry_out()
    assert [effect.lease for effect in owner.said(effects.Suspect)] == [lease]
    assert not owner.said(effects.Crash)
    owner.dies(running=bytes(16))
    assert [queued.id for queued in owner.cls().queue] == [task.id]


def test_a_worker_that_ends_by_plan(owner):
    short(owner)
    tasks = [owner.submit() for _ in range(3)]
    lease = owner.grant()
    owner.reply(lease, tasks[0], exiting=True, returned=[tasks[1].id])
    assert [(effect.lease, effect.retired) for effect in owner.said(effects.Release)] == [(lease, True)]
    assert {task.id for task in owner.cls().queue} == {tasks[1].id, tasks[2].id}
    assert not owner.said(effects.Crash)


def test_what_was_cancelled_and_comes_back_is_cancelled(owner):
    short(owner)
    tasks = [owner.submit() for _ in range(2)]
    lease = owner.grant()
    tasks[1].cancelled = True
    owner.reply(lease, tasks[0], exiting=True, returned=[tasks[1].id])
    assert [effect.task for effect in owner.said(effects.Cancel)] == [tasks[1]]
    assert not owner.cls().queue


# --- what readers are told --------------------------------------------------------------------------------------------


def test_the_story_of_a_task(owner):
    task = owner.submit(retries=1)
    owner.grant()
    assert owner.table.story(task.id) == ["0.000000 the worker was granted", "it was pushed to a worker"]
    owner.dies(running=task.id)
    owner.passes(LAST_WORDS_S)
    assert owner.table.story(task.id) == ["0.250000 attempt 1 is next", "it is queued"]
    assert owner.table.story(b"lease") == [
        "0.000000 the worker was granted", "0.250000 the worker has died", "0.250000 attempt 1 is next",
    ]  # fmt: skip


@pytest.mark.parametrize("fault", ["in two places", "lost lease", "unsent", "no demand"])
def test_what_does_not_hold_is_said(owner, fault):
    task = owner.submit()
    lease = owner.grant()
    match fault:
        case "in two places":
            owner.cls().queue.append(task)
        case "lost lease":
            del owner.table.leases[b"lease"]
        case "unsent":
            lease.batch[task.id] = task
        case _:
            owner.submit()
            owner.cls().demanded = 0
    with pytest.raises(AssertionError):
        owner.table.validate()


def test_what_was_interrupted_is_caught_up_with(owner):
    task = owner.submit()
    lease = owner.grant()
    lease.batch[task.id] = task
    owner.table.catch_up(0.0)
    owner.carry_out()
    assert owner.pushed[b"lease"] == [[task.id], [task.id]]
