"""An actor that is to end takes no more calls: a caller that waits for one is told so while it still runs others.

Else a call that it runs could wait for a task that waits for the actor, and neither would come to an end.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests import sessions

import ray
from ray.exceptions import RayActorError, TaskCancelledError
from ray.testing import eventually

LIMIT_S = 40.0

session = sessions.shared(num_cpus=4, log_to_driver=False)
nothing_left = sessions.unchecked()


def appears(file: Path) -> None:
    eventually(file.exists, LIMIT_S, f"{file} is not there")


def told(ref: Any) -> str:
    """What a call says that does not start; nothing may take for ever."""
    with pytest.raises(RayActorError) as caught:
        ray.get(ref, timeout=LIMIT_S)
    assert "did not start" in str(caught.value)
    return str(caught.value)


@ray.remote(num_cpus=0)
def calls_back(actor: Any) -> str:
    return ray.get(actor.short.remote())


@ray.remote(num_cpus=0, num_returns="streaming")
def streams_back(actor: Any) -> Any:
    yield 0
    yield ray.get(actor.short.remote())


class Plain:
    def ready(self) -> int:
        return os.getpid()

    def short(self) -> str:
        return "ran"

    def waits(self, me: Any, begun: Path, gate: Path) -> str:
        """For a task that calls this very actor, once it is about to end."""
        begun.touch()
        appears(gate)
        return ray.get(calls_back.remote(me or ray.get_runtime_context().current_actor))

    def waits_for_any(self, me: Any, begun: Path, gate: Path) -> str:
        begun.touch()
        appears(gate)
        return ray.get(ray.wait([calls_back.remote(me)])[0][0])

    def waits_for_a_stream(self, me: Any, begun: Path, gate: Path) -> list[Any]:
        begun.touch()
        appears(gate)
        return [ray.get(ref) for ref in streams_back.remote(me)]

    def waits_for_an_actor(self, me: Any, begun: Path, gate: Path) -> str:
        begun.touch()
        appears(gate)
        return ray.get(Other.remote().calls.remote(me))

    def waits_for_its_caller(self, caller: Any, begun: Path, gate: Path) -> str:
        begun.touch()
        appears(gate)
        return ray.get(caller.calls_back.remote())

    def size_of(self, data: bytes, refs: list[Any]) -> int:
        return len(data) + len(refs)

    def dies(self, begun: Path, gate: Path) -> None:
        begun.touch()
        appears(gate)
        os._exit(1)

    def ends_itself(self, me: Any, begun: Path, gate: Path) -> str:
        begun.touch()
        appears(gate)
        me.__ray_terminate__.remote()
        return ray.get(calls_back.remote(me))


class Grouped(Plain):
    @ray.method(concurrency_group="io")
    def leaves(self, begun: Path) -> None:
        appears(begun)
        ray.exit_actor()

    @ray.method(concurrency_group="io")
    def short(self) -> str:
        return "ran"


class Async:
    async def ready(self) -> int:
        return os.getpid()

    async def short(self) -> str:
        return "ran"

    async def waits(self, me: Any, begun: Path, gate: Path) -> str:
        begun.touch()  # noqa: ASYNC240 - takes no time
        await asyncio.to_thread(appears, gate)
        return await calls_back.remote(me or ray.get_runtime_context().current_actor)


class AsyncGrouped(Async):
    @ray.method(concurrency_group="io")
    async def short(self) -> str:
        return "ran"


@ray.remote(num_cpus=0, max_concurrency=2)
class Caller:
    """Which is called by what it calls."""

    def runs(self, actor: Any, begun: Path, gate: Path) -> str:
        self.actor = actor
        return ray.get(actor.waits_for_its_caller.remote(ray.get_runtime_context().current_actor, begun, gate))

    def calls_back(self) -> str:
        return ray.get(self.actor.short.remote())


@ray.remote(num_cpus=0)
class Other:
    """Another process."""

    def ready(self) -> int:
        return os.getpid()

    def calls(self, actor: Any) -> str:
        return ray.get(actor.short.remote())

    def ends(self, actor: Any) -> list[Any]:
        """With a call behind the end."""
        return [actor.__ray_terminate__.remote(), actor.short.remote()]

    def puts(self) -> list[Any]:
        return [ray.put(2)]

    def runs(self, actor: Any, method: str, *args: Any) -> list[Any]:
        return [getattr(actor, method).remote(*args)]


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "serial": (Plain, {}),
    "threads": (Plain, {"max_concurrency": 3}),
    "groups": (Grouped, {"concurrency_groups": {"io": 2}}),
    "async": (Async, {"max_concurrency": 3}),
    "one at a time": (Async, {"max_concurrency": 1}),
    "async groups": (AsyncGrouped, {"concurrency_groups": {"io": 2}}),
}


def make(kind: str, **more: Any) -> Any:
    cls, options = KINDS[kind]
    return ray.remote(num_cpus=0, **options)(cls).options(**more).remote()


def has_name(name: str) -> bool:
    try:
        ray.get_actor(name)
    except ValueError:
        return False
    return True


@pytest.fixture(scope="module")
def other(session: Any) -> Any:
    return Other.remote()


@pytest.mark.parametrize("kind", KINDS)
def test_terminated_by_another_process(kind: str, other: Any, tmp_path: Path) -> None:
    actor = make(kind)
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    waits = actor.waits.remote(actor, begun, gate)
    appears(begun)
    ending, behind = ray.get(other.ends.remote(actor), timeout=LIMIT_S)
    assert "__ray_terminate__ was called" in told(behind)  # while the actor still runs a call
    gate.touch()
    told(waits)
    assert ray.get(ending, timeout=LIMIT_S) is None
    told(actor.short.remote())


@pytest.mark.parametrize("kind", ["serial", "threads", "async"])
def test_its_last_handle_goes(kind: str, tmp_path: Path) -> None:
    """A call goes on whose caller has died, and has the only handle."""
    caller = Other.remote()
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    actor = make(kind, name=f"named {kind}")
    pid = ray.get(actor.ready.remote(), timeout=LIMIT_S)
    killed = ray.get(caller.ready.remote(), timeout=LIMIT_S)
    ray.get(caller.runs.remote(actor, "waits", None, begun, gate), timeout=LIMIT_S)
    appears(begun)
    os.kill(killed, signal.SIGKILL)
    del actor
    eventually(lambda: not has_name(f"named {kind}"), LIMIT_S, "it was not told to end")
    gate.touch()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), LIMIT_S, "its process goes on")


@pytest.mark.parametrize("kind", ["groups"])
def test_it_leaves(kind: str, tmp_path: Path) -> None:
    actor = make(kind)
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    waits = actor.waits.remote(actor, begun, gate)
    appears(begun)
    left = actor.leaves.remote(begun)
    with pytest.raises(RayActorError, match="ended it"):
        ray.get(left, timeout=LIMIT_S)
    gate.touch()
    told(waits)


def ends_while_it_runs(actor: Any, call: Any, other: Any, folder: Path) -> None:
    """``call`` has the actor run something; another one ends it meanwhile, and both are told of what comes then."""
    folder.mkdir()
    begun, gate = folder / "begun", folder / "gate"
    runs = call.remote(actor, begun, gate)
    appears(begun)
    _, behind = ray.get(other.ends.remote(actor), timeout=LIMIT_S)
    told(behind)
    gate.touch()
    told(runs)


@pytest.mark.parametrize("method", ["waits_for_any", "waits_for_a_stream", "waits_for_an_actor"])
def test_ways_to_wait(method: str, other: Any, tmp_path: Path) -> None:
    for kind in ("serial", "threads", "groups"):
        actor = make(kind)
        ends_while_it_runs(actor, getattr(actor, method), other, tmp_path / kind)


def test_its_caller_keeps_calls_back_until_others_have_ended(other: Any, tmp_path: Path) -> None:
    for kind in ("serial", "threads"):
        ends_while_it_runs(make(kind), Caller.remote().runs, other, tmp_path / kind)


def test_it_ends_itself_and_waits(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    for kind in ("serial", "threads", "groups"):
        actor = make(kind)
        told(actor.ends_itself.remote(actor, tmp_path / "begun", gate))
        told(actor.short.remote())


def test_calls_that_would_be_repeated(other: Any, tmp_path: Path) -> None:
    """An actor that ends by plan is not started anew, so nothing waits for that."""
    for kind in ("serial", "threads"):
        actor = make(kind, max_restarts=-1, max_task_retries=-1)
        ends_while_it_runs(actor, actor.waits, other, tmp_path / kind)


def test_the_end_is_cancelled(other: Any, tmp_path: Path) -> None:
    """The actor takes calls again; what it was given with those that it refused is there, and held by nobody else."""
    actor = make("serial")
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    large, mine, others = ray.put(bytes(20_000)), ray.put(1), ray.get(other.puts.remote(), timeout=LIMIT_S)
    waits = actor.waits.remote(actor, begun, gate)
    appears(begun)
    ending, behind = ray.get(other.ends.remote(actor), timeout=LIMIT_S)
    told(behind)
    told(actor.size_of.remote(large, [mine, *others]))
    ray.cancel(ending)
    with pytest.raises(TaskCancelledError):
        ray.get(ending, timeout=LIMIT_S)
    taken = actor.size_of.remote(large, [mine, *others])
    done, _ = ray.wait([taken], timeout=50)
    assert not done
    ray.cancel(waits)
    gate.touch()  # what runs in a thread is not interrupted
    with pytest.raises(TaskCancelledError):
        ray.get(waits, timeout=LIMIT_S)
    assert ray.get(taken, timeout=LIMIT_S) == 20_002
    assert ray.get(actor.short.remote(), timeout=LIMIT_S) == "ran"


def test_its_process_dies_before_it_has_ended(other: Any, tmp_path: Path) -> None:
    """The one that takes its place takes calls, also of those that were refused."""
    actor = make("serial", max_restarts=1)
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    pid = ray.get(actor.ready.remote(), timeout=LIMIT_S)
    dies = actor.dies.remote(begun, gate)
    appears(begun)
    ending, behind = ray.get(other.ends.remote(actor), timeout=LIMIT_S)
    told(behind)
    gate.touch()
    for ref in (dies, ending):
        with pytest.raises(RayActorError, match="is started again"):
            ray.get(ref, timeout=LIMIT_S)
    assert ray.get(other.calls.remote(actor), timeout=LIMIT_S) == "ran"
    assert ray.get(actor.ready.remote(), timeout=LIMIT_S) != pid
