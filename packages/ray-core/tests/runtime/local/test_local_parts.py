"""The parts of local mode, each with what it needs and no session."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ray.exceptions import (
    ObjectLostError,
    RayActorError,
    RayConnectionError,
    RaySystemError,
    RayTaskError,
    TaskTimeoutError,
)
from ray.ids import object_id
from ray.protocol.references import FAILED, PENDING, READY
from ray.protocol.resources import UNIT
from ray.runtime.interface import STREAMING, ActorOptions, FunctionDescriptor, MethodOptions, TaskOptions
from ray.runtime.local.actor_table import ActorTable
from ray.runtime.local.calls import Calls
from ray.runtime.local.entries import Entries
from ray.runtime.local.facts import Facts
from ray.runtime.local.failures import Failures
from ray.runtime.local.frames import Frame, running
from ray.runtime.local.freeing import Freeing
from ray.runtime.local.nothing_pending import NothingPending
from ray.runtime.local.streams import LocalStream
from ray.runtime.local.tasks import Tasks
from ray.runtime.local.values import Values
from ray.runtime.refs import session
from ray.runtime.refs.ref import ObjectRef
from ray.serialization import ORDERLY, serialize


class Parts:
    """Those of a session, with the failures that were shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.entries = Entries()
        self.failures = Failures(self.shown.append)
        self.actors = ActorTable(self.entries, "here")
        self.freeing = Freeing(self.entries, self.freed)
        collect = self.freeing.collect
        self.values = Values(self.entries, self.failures, collect)
        self.tasks = Tasks(self.entries, self.failures, self.values, self.actors, collect)
        self.calls = Calls(self.entries, self.failures, self.values, self.actors, self.tasks, collect)
        self.pending = NothingPending(self.entries)

    def freed(self, id: bytes) -> None:
        self.failures.tell(id)
        self.actors.freed(id)

    def run(self, function: Any, *args: Any, **options: Any) -> Any:
        return self.tasks.submit_task(FunctionDescriptor(function), TaskOptions({"CPU": UNIT}, **options), args, {})

    def make(self, cls: type, *args: Any, **options: Any) -> Any:
        given = ActorOptions({"CPU": UNIT}, {}, **options)
        return self.calls.create_actor(FunctionDescriptor(cls), given, {}, args, {}, False)

    def call(self, core: Any, method: str, *args: Any, **options: Any) -> Any:
        return self.calls.submit_call(core, method, MethodOptions(**options), args, {})

    def get(self, ref: Any) -> Any:
        return self.values.get([ref], None)[0]


@pytest.fixture
def parts() -> Iterator[Parts]:
    yield Parts()
    assert running.get() is None


def fails(text: str = "it failed") -> None:
    raise ValueError(text)


class Counter:
    def __init__(self, start: Any = 0) -> None:
        if start == "fail":
            raise ValueError("no start")
        self.count = start

    def add(self, by: int = 1) -> int:
        self.count += by
        return int(self.count)

    def fail(self) -> None:
        raise KeyError("in a method")


# --- entries ----------------------------------------------------------------------------------------------------------


def test_an_id_has_one_entry() -> None:
    entries = Entries()
    id = object_id(entries.next_task_id())
    entry = entries.find(id)
    assert entries.find(id) is entry
    assert entry.status == PENDING
    ref: ObjectRef[Any] = ObjectRef(entry)
    assert entries.of(ref) is entry
    with pytest.raises(RayConnectionError, match="session that has ended"):
        Entries().of(ref)


def test_objects_are_made_by_a_task_or_fail() -> None:
    entries = Entries()
    made, failed = (entries.own(object_id(entries.next_task_id())) for _ in range(2))
    entries.fill([made], [serialize(1)], "f")
    entries.fail([failed], b"why")
    assert (made.status, made.task) == (READY, "f")
    assert (failed.status, failed.value) == (FAILED, b"why")


def test_a_value_keeps_the_refs_inside() -> None:
    parts = Parts()
    inner = parts.values.put("inner")
    id = inner._entry.id
    outer = parts.values.put("outer")
    entry = outer._entry
    packed = serialize(0)
    packed.refs.append(inner)
    parts.entries.fill([entry], [packed], "f")
    del inner, packed
    gc.collect()
    parts.freeing.collect()
    assert id in parts.entries.table.entries
    del outer, entry
    parts.freeing.collect()
    assert id not in parts.entries.table.entries


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_failure_is_shown_when_all_its_objects_are_gone() -> None:
    shown: list[str] = []
    failures = Failures(shown.append)
    failures.note({"message": "both"}, [b"a", b"b"])
    failures.tell(b"a")
    failures.tell(b"a")
    failures.tell(b"unknown")
    assert shown == []
    failures.tell(b"b")
    assert shown == ["both"]


def test_a_failure_that_was_asked_for_is_not_shown() -> None:
    shown: list[str] = []
    failures = Failures(shown.append)
    failures.note({"message": "asked"}, [b"a", b"b"])
    failures.asked_for(b"a")
    failures.tell(b"b")
    failures.close()
    assert shown == []
    assert failures.rows() == [{"message": "asked"}]


def test_a_failure_is_passed_on() -> None:
    shown: list[str] = []
    failures = Failures(shown.append)
    failures.note({"message": "told"}, [b"a"])
    failures.passed_on(b"a", b"life")
    failures.passed_on(b"unknown", b"other")
    failures.tell(b"a")
    assert shown == []
    failures.tell(b"life")
    assert shown == ["told"]


def test_what_is_left_is_shown_at_the_end() -> None:
    shown: list[str] = []
    failures = Failures(shown.append)
    failures.note({"message": "one"}, [b"a", b"b"])
    failures.note({"message": "two"}, [b"c"])
    failures.close()
    failures.close()
    assert shown == ["one", "two"]


def test_the_latest_failures_are_listed() -> None:
    failures = Failures(lambda text: None)
    for number in range(1005):
        failures.note({"message": str(number)}, [])
    rows = failures.rows()
    assert [rows[0]["message"], rows[-1]["message"], len(rows)] == ["5", "1004", 1000]
    rows[0]["message"] = "changed"
    assert failures.rows()[0]["message"] == "5"


# --- freeing ----------------------------------------------------------------------------------------------------------


def test_what_nobody_refers_to_is_freed_at_the_next_call() -> None:
    entries = Entries()
    freed: list[bytes] = []
    freeing = Freeing(entries, freed.append)
    ref = entries.make(serialize(1))
    id = ref._entry.id
    freeing.collect()
    assert freed == []
    del ref
    assert id in entries.table.entries
    freeing.collect()
    assert freed == [id]
    assert id not in entries.table.entries


def test_streams_end_with_their_last_ref_or_the_session(parts: Parts) -> None:
    ended: list[str] = []

    def endless(name: str) -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.append(name)

    dropped = parts.run(endless, "dropped", num_returns=STREAMING)
    kept = parts.run(endless, "kept", num_returns=STREAMING)
    del dropped
    parts.freeing.collect()
    assert ended == ["dropped"]
    parts.freeing.close_streams()
    assert ended == ["dropped", "kept"]
    del kept


# --- values -----------------------------------------------------------------------------------------------------------


def test_values_are_copies(parts: Parts) -> None:
    value = [1, 2]
    ref = parts.values.put(value)
    value.append(3)
    got = parts.get(ref)
    assert got == [1, 2]
    got.append(4)
    assert parts.values.get_one(ref, None) == [1, 2]


def test_what_nobody_makes_is_lost(parts: Parts) -> None:
    ref: ObjectRef[Any] = ObjectRef(parts.entries.find(b"x" * 20))
    with pytest.raises(ObjectLostError, match="no task or put"):
        parts.get(ref)


def test_a_list_asks_for_all_of_it(parts: Parts) -> None:
    refs = [parts.run(fails, text) for text in ("one", "two")]
    with pytest.raises(ValueError, match="one"):
        parts.values.get(refs, None)
    refs.clear()
    parts.freeing.collect()
    assert parts.shown == []


def test_one_that_is_read_is_asked_for(parts: Parts) -> None:
    ref = parts.run(fails, "read")
    with pytest.raises(ValueError, match="read"):
        parts.values.get_one(ref, None)
    del ref
    parts.freeing.collect()
    assert parts.shown == []


def test_arguments_are_copied_and_refs_among_them_read(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    here = SimpleNamespace(reduce_ref=parts.values.reduce_ref, find_entry=parts.entries.find)
    monkeypatch.setattr(session, "_current", here)
    ref = parts.values.put("value")
    packed = parts.values.pack((ref, [1]), {"named": ref})
    assert parts.values.unpack(packed, "f") == (["value", [1]], {"named": "value"})
    failed = parts.run(fails)
    with pytest.raises(ValueError, match="it failed"):
        parts.values.unpack(parts.values.pack((failed,), {}), "f")


def test_a_ref_that_leaves_is_kept(parts: Parts) -> None:
    ref = parts.values.put(1)
    inside: list[Any] = []
    parts.values.reduce_ref(ref, inside)
    assert (inside, parts.entries.kept) == ([ref], [])
    _, args = parts.values.reduce_ref(ref, None)
    assert parts.entries.kept == [ref]
    assert args == (ref._entry.id,)
    with pytest.raises(RayConnectionError):
        Parts().values.reduce_ref(ref, None)


# --- nothing is pending -----------------------------------------------------------------------------------------------


def test_wait_gives_what_is_ready(parts: Parts) -> None:
    refs = [parts.values.put(number) for number in range(3)]
    never: ObjectRef[Any] = ObjectRef(parts.entries.find(b"y" * 20))
    assert parts.pending.wait([never, *refs], 2, 0.0) == (refs[:2], [never, refs[2]])
    assert parts.pending.knows(refs[0])
    assert not Parts().pending.knows(refs[0])
    assert parts.pending.done_of(refs) == refs
    assert parts.pending.is_done(never)


def test_who_looks_at_a_stream_has_it_go_on_and_a_cancel_ends_it(parts: Parts) -> None:
    def counts() -> Iterator[int]:
        number = 0
        while True:
            yield (number := number + 1)

    stream = parts.run(counts, num_returns=STREAMING)
    while stream._stream.refs[-1]._entry.status != PENDING:
        stream._stream.refs.popleft()
    last = stream._stream.refs[-1]
    assert type(last._entry.task) is LocalStream
    assert parts.pending.is_done(last)
    assert last._entry.status == READY
    following = stream._stream.refs[-1]
    parts.pending.cancel(following, False, True)
    assert following._entry.status == FAILED
    parts.pending.cancel(last, False, True)


# --- tasks ------------------------------------------------------------------------------------------------------------


def test_a_task_has_run_when_it_is_submitted(parts: Parts) -> None:
    ran: list[int] = []
    ref = parts.run(ran.append, 1)
    assert ran == [1] or parts.get(ref) is None
    assert [parts.get(ref) for ref in parts.run(divmod, 7, 2, num_returns=2)] == [3, 1]
    assert parts.run(print, num_returns=0) is None


def test_a_failure_shows_at_get_and_is_listed(parts: Parts) -> None:
    ref = parts.run(fails, "seen")
    with pytest.raises(RayTaskError, match="seen"):
        parts.get(ref)
    [row] = parts.failures.rows()
    assert (row["type"], row["function"], row["task_id"]) == ("task", "fails", ref._entry.id[:16].hex())
    del ref
    parts.freeing.collect()
    assert parts.shown == []
    assert parts.run(fails, "no object", num_returns=0) is None
    assert parts.shown[0].startswith("ValueError: no object in fails\n")


def test_a_task_is_retried_as_often_as_it_may(parts: Parts) -> None:
    attempts = []

    def third_time() -> int:
        frame = running.get()
        assert frame is not None
        attempts.append(frame.attempt)
        if frame.attempt < 2:
            raise OSError
        return frame.attempt

    here = Frame(parts.entries.next_task_id(), "third_time", {}, retries=2, retry_on=(OSError,))
    assert parts.get(parts.tasks.run(here, lambda: here.packed(third_time()), 1)) == 2
    assert attempts == [0, 1, 2]
    here = Frame(parts.entries.next_task_id(), "third_time", {}, retries=1, retry_on=True)
    with pytest.raises(OSError, match="OSError"):
        parts.get(parts.tasks.run(here, lambda: here.packed(third_time()), 1))


def test_a_task_that_took_too_long_has_failed(parts: Parts) -> None:
    with pytest.raises(TaskTimeoutError):
        parts.get(parts.run(sum, range(100), timeout_s=0.0))


def test_what_the_keyboard_interrupts_is_not_a_failure(parts: Parts) -> None:
    here = Frame(parts.entries.next_task_id(), "f", {})

    def interrupted() -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parts.tasks.run(here, interrupted, 1)
    assert running.get() is None
    assert parts.failures.rows() == []


def test_an_orderly_end_is_no_failure(parts: Parts) -> None:
    here = Frame(parts.entries.next_task_id(), "f", {})
    entry = parts.entries.own(object_id(here.task_id))
    parts.tasks.fail([entry], here, ValueError("meant"), ORDERLY)
    assert entry.status == FAILED
    assert parts.failures.rows() == []


# --- actors -----------------------------------------------------------------------------------------------------------


def test_calls_reach_the_instance(parts: Parts) -> None:
    core = parts.make(Counter, 5)
    assert parts.get(parts.call(core, "add")) == 6
    assert parts.get(parts.call(core, "add", 4)) == 10
    with pytest.raises(KeyError):
        parts.get(parts.call(core, "fail"))
    with pytest.raises(RayConnectionError, match="handle of actor Counter"):
        Parts().call(core, "add")


def test_names_are_taken_until_the_end(parts: Parts) -> None:
    core = parts.make(Counter, name="one")
    with pytest.raises(ValueError, match="'one' is taken in namespace 'here'"):
        parts.make(Counter, name="one")
    other = parts.make(Counter, name="one", namespace="there")
    assert parts.calls.get_named_actor("one", None) is core
    assert parts.calls.get_named_actor("one", "there") is other
    with pytest.raises(ValueError, match=r"no live actor named 'on'.*one"):
        parts.calls.get_named_actor("on", None)
    parts.calls.kill_actor(core, True)
    with pytest.raises(ValueError, match="no live actor"):
        parts.calls.get_named_actor("one", None)
    with pytest.raises(RayActorError, match=r"ray\.kill"):
        parts.get(parts.call(core, "add"))


def test_an_actor_goes_with_its_last_handle_unless_it_is_detached(parts: Parts) -> None:
    core = parts.make(Counter, name="kept", detached=True)
    gone = parts.make(Counter, name="gone")
    assert len(parts.actors.held()) == 2
    del core, gone
    gc.collect()
    assert parts.calls.get_named_actor("kept", None).class_name == "Counter"
    with pytest.raises(ValueError, match="no live actor"):
        parts.calls.get_named_actor("gone", None)
    assert parts.actors.held() == [{"CPU": UNIT}]


def test_a_restart_makes_the_instance_anew(parts: Parts) -> None:
    core = parts.make(Counter, 5, max_restarts=1)
    assert parts.get(parts.call(core, "add")) == 6
    parts.calls.kill_actor(core, False)
    assert parts.get(parts.call(core, "add")) == 6
    parts.calls.kill_actor(core, False)
    other = parts.make(Counter, max_restarts=-1)
    parts.calls.kill_actor(other, True)
    for dead in (core, other):
        with pytest.raises(RayActorError):
            parts.get(parts.call(dead, "add"))
    assert parts.actors.held() == []


def test_a_failed_constructor_is_told_by_its_calls(parts: Parts) -> None:
    core = parts.make(Counter, "fail")
    with pytest.raises(RayActorError, match="no start"):
        parts.get(parts.call(core, "add"))
    del core
    gc.collect()
    parts.freeing.collect()
    assert parts.shown == []
    assert [row["function"] for row in parts.failures.rows()] == ["Counter.__init__", "Counter.add"]


def test_a_failed_constructor_is_told_of_where_nobody_calls(parts: Parts) -> None:
    core = parts.make(Counter, "fail")
    parts.freeing.collect()
    assert parts.shown == []
    del core
    gc.collect()
    parts.freeing.collect()
    assert [text.partition("\n")[0] for text in parts.shown] == ["ValueError: no start in Counter.__init__"]


def test_half_an_actor_is_found_by_nobody(parts: Parts) -> None:
    class Interrupted:
        def __init__(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parts.make(Interrupted, name="half", detached=True)
    with pytest.raises(ValueError, match="no live actor"):
        parts.calls.get_named_actor("half", None)


def test_outside_of_an_actor_there_is_none(parts: Parts) -> None:
    with pytest.raises(TypeError, match="outside of an actor"):
        parts.calls.exit_actor()
    with pytest.raises(RaySystemError, match="outside of an actor"):
        parts.calls.own_actor()


def test_an_actor_may_leave_and_knows_itself(parts: Parts) -> None:
    class Leaving:
        def me(self) -> bytes:
            return parts.calls.own_actor().actor_id

        def leave(self) -> None:
            parts.calls.exit_actor()

    core = parts.make(Leaving)
    frame = Frame(parts.entries.next_task_id(), "outer", {})
    token = running.set(frame)
    local = parts.actors.of(core)
    frame.actor = local
    assert parts.calls.own_actor() is core
    running.reset(token)
    local.instance = Leaving()
    with pytest.raises(RayActorError, match="exit_actor"):
        parts.get(parts.call(core, "leave"))
    assert parts.get(parts.calls.terminate_actor(core)) is None
    assert parts.failures.rows() == []


def test_an_adopted_handle_is_that_of_the_process(parts: Parts) -> None:
    core = parts.make(Counter)
    twin = parts.actors.of(core).core(core.life)
    assert parts.actors.adopt(twin) is core
    assert [actor.actor_id for actor in parts.actors.clear()] == [core.actor_id]
    with pytest.raises(RayConnectionError):
        parts.call(core, "add")


# --- facts ------------------------------------------------------------------------------------------------------------


def test_resources_are_counted() -> None:
    held: list[Any] = [{"CPU": UNIT}]
    facts = Facts({"CPU": 4 * UNIT, "disk": UNIT // 2}, "here", lambda: list(held))
    assert facts.cluster_resources() == {"CPU": 4.0, "disk": 0.5}
    assert facts.available_resources() == {"CPU": 3.0, "disk": 0.5}
    outer = Frame(b"o" * 16, "outer", {"CPU": UNIT, "disk": UNIT})
    token = running.set(Frame(b"i" * 16, "inner", {"CPU": UNIT}, outer=outer))
    try:
        assert facts.available_resources() == {"CPU": 1.0}
        assert facts.context()["task_name"] == "inner"
    finally:
        running.reset(token)
    assert facts.context()["task_id"] is None
    assert facts.context()["namespace"] == "here"
    [node] = facts.nodes()
    assert node["Resources"] == {"CPU": 4.0, "disk": 0.5}
    assert facts.address_info()["node_id"] == facts.for_plugins()["node_id"] == node["NodeID"]
