"""Random lives of simulated clusters: the machines bear them, and what is broken in a machine is found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from tests.quick import later

from ray.protocol import calls
from ray.protocol.actors import ActorTable, Publish
from ray.protocol.calls import CallTable
from ray.protocol.delivery import Delivery
from ray.protocol.fates import UNSTARTED
from ray.protocol.recalls import Recalls
from ray.protocol.references import ReferenceTable
from ray.protocol.run_slot import RunSlot
from ray.protocol.task_records import Lease
from ray.protocol.tasks import TaskTable
from ray.runtime.owner.borrowing import Borrowing
from ray.testing import trials
from ray.testing.simulated_actor import SimulatedActor


@pytest.mark.parametrize(
    "first", [*range(0, 75, 25), *(pytest.param(first, marks=pytest.mark.slow) for first in range(75, 200, 25))]
)
def test_lives(first: int) -> None:
    assert trials.failures(range(first, first + 25)) == []


def test_a_worker_that_is_about_to_end_becomes_no_actor() -> None:
    assert trials.failures([20254]) == []


def test_a_seed_is_a_life() -> None:
    assert [trials.live(7).digest for _ in range(2)] == [trials.live(7).digest] * 2


def test_the_command_line_lives_one_again() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ray.testing.trials", "--seed", "3"],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout.startswith("seed 3: all is well after ")


def starts_one_less(self: Lease[Any], running: bytes, *, died: bool = False) -> int:
    return max(0, _started(self, running, died=died) - 1)


def forgets_what_it_takes_back(self: TaskTable[Any], lease: Lease[Any], ids: Any) -> None:
    for id in ids:
        lease.inflight.pop(id, None)


def keeps_what_is_revoked(self: Recalls[Any], lease: bytes, recall: bytes, running: bytes | None, now: float) -> None:
    _in_force(self, lease, recall, None, now)


def starts_what_is_revoked(self: RunSlot, task: bytes) -> bool:
    return True


def keeps_idle_workers(self: TaskTable[Any], now: float) -> None: ...


def retries_without_an_attempt(self: TaskTable[Any], lease: Lease[Any], task: Any, now: float) -> None:
    _retry(self, lease, task, now)
    task.attempt -= 1


def asks_for_nobody(self: TaskTable[Any], cls: Any, now: float) -> None: ...


def forgets_what_could_not_be_sent(self: TaskTable[Any], lease: Lease[Any], now: float) -> None:
    self.pump(lease.cls, now)


def takes_twice(self: Delivery[Any], header: Any, message: Any) -> list[Any]:
    return [message] if header.number else []


def fills_nobody(self: TaskTable[Any], cls: Any, now: float, replied: Any = None) -> None:
    if replied is None:
        _pump(self, cls, now)


# --- calls ------------------------------------------------------------------------------------------------------------


def takes_all_for_unstarted(callee: Any, sent: Sequence[Any], cause: Any, process_id: bytes) -> list[str]:
    return [UNSTARTED] * len(sent)


def keeps_the_order_in_which_they_come_back(callee: Any) -> None: ...


def leaves_calls_of_lost_connections(self: CallTable[Any], callee: Any, now: float) -> None: ...


def never_connects_again(self: CallTable[Any], callee: Any) -> None: ...


def repeats_without_an_attempt(self: CallTable[Any], callee: Any, call: Any, effect: Any, **facts: Any) -> None:
    _take(self, callee, call, effect, is_lost=facts.get("is_lost", False))


def repeats_where_no_call_starts(self: CallTable[Any], callee: Any, error: Any = None) -> None:
    if error is not None or callee.cause is None or callee.dead:
        _end_queue(self, callee, error)


def keeps_actors_with_cancelled_calls(self: CallTable[Any], id: bytes) -> Any:
    callee = self.callees.get(id)
    return None if callee is not None and (callee.inflight or callee.queue) else _forget(self, id)


# --- actors -----------------------------------------------------------------------------------------------------------


def keeps_unheld_actors(self: ActorTable, actor: bytes) -> list[Any]:
    return []


def keeps_actors_of_the_dead(self: ActorTable, owner: bytes) -> list[Any]:
    return []


def counts_no_restarts(self: ActorTable, entry: Any, cause: Any) -> list[Any]:
    entry.restarts = 0
    return _restart(self, entry, cause)


def restarts_what_has_ended_by_plan(self: ActorTable, worker: bytes, reason: str) -> None: ...


def tells_nobody_of_restarts(self: ActorTable, worker: bytes, error: bytes) -> list[Any]:
    return [effect for effect in _actor_started(self, worker, error) if type(effect) is not Publish]


# --- references -------------------------------------------------------------------------------------------------------


def counts_no_credits(self: ReferenceTable, entry: Any, borrower: bytes, credits: int = 1) -> None: ...


def returns_nothing(self: ReferenceTable, entry: Any) -> int:
    return 0


def forgets_no_borrower(self: ReferenceTable, borrower: bytes) -> None: ...


def keeps_what_a_value_has_held(self: ReferenceTable, entries: Any) -> None:
    _unpin(self, [entry for entry in entries if entry.owner is None])


def hands_over_no_arguments(self: Borrowing, record: Any, receiver: Any, handed: Any) -> None: ...


def grants_nothing_that_is_kept(self: Borrowing, record: Any, kept: Any, worker: Any) -> None: ...


def watches_no_borrower(self: Borrowing, borrower: bytes, address: str) -> None: ...


def speaks_before_it_is_its_turn(self: Any, peer: Any) -> None:
    if "send_to_owner" not in sys._getframe(1).f_code.co_name:
        _flush(self, peer)


_started, _in_force, _retry, _pump = Lease.started, Recalls.in_force, TaskTable.retry, TaskTable.pump
_take, _forget, _end_queue = CallTable._take, CallTable.forget, CallTable._end_queue
_restart, _actor_started = ActorTable._restart, ActorTable.started
_unpin, _flush = ReferenceTable.unpin, SimulatedActor._flush


@pytest.mark.parametrize(
    ("of", "name", "broken"),
    [
        later(TaskTable, "pump", fills_nobody),
        later(calls, "fates_of", takes_all_for_unstarted),
        later(calls, "put_in_order", keeps_the_order_in_which_they_come_back),
        (CallTable, "settle", leaves_calls_of_lost_connections),
        later(CallTable, "lost", never_connects_again),
        later(CallTable, "_take", repeats_without_an_attempt),
        later(CallTable, "_end_queue", repeats_where_no_call_starts),
        later(CallTable, "forget", keeps_actors_with_cancelled_calls),
        later(ActorTable, "unheld", keeps_unheld_actors),
        later(ActorTable, "owner_lost", keeps_actors_of_the_dead),
        (ActorTable, "_restart", counts_no_restarts),
        (ActorTable, "exiting", restarts_what_has_ended_by_plan),
        later(ActorTable, "started", tells_nobody_of_restarts),
        (ReferenceTable, "grant", counts_no_credits),
        later(ReferenceTable, "take_handed", returns_nothing),
        later(ReferenceTable, "borrower_lost", forgets_no_borrower),
        (ReferenceTable, "unpin", keeps_what_a_value_has_held),
        later(Borrowing, "hand_over_arguments", hands_over_no_arguments),
        later(Borrowing, "grant_kept", grants_nothing_that_is_kept),
        later(Borrowing, "_watch", watches_no_borrower),
        later(SimulatedActor, "_flush", speaks_before_it_is_its_turn),
        later(Lease, "started", starts_one_less),
        (TaskTable, "take_back", forgets_what_it_takes_back),
        (TaskTable, "_release_idle", keeps_idle_workers),
        later(TaskTable, "retry", retries_without_an_attempt),
        later(TaskTable, "_update_demand", asks_for_nobody),
        later(TaskTable, "_was_not_sent", forgets_what_could_not_be_sent),
        later(Recalls, "in_force", keeps_what_is_revoked),
        later(RunSlot, "may_start", starts_what_is_revoked),
        (Delivery, "receive", takes_twice),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_broken_is_found(monkeypatch: pytest.MonkeyPatch, of: Any, name: str, broken: Any) -> None:
    monkeypatch.setattr(of, name, broken)
    monkeypatch.setattr(trials, "MAX_EVENTS", 20_000)
    for seed in range(400):
        if trials.failures([seed]):
            return
    pytest.fail("400 lives without a failure")
