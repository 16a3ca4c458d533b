"""Calls that an actor had been sent when it ended itself: each has run and has a value, or is said not to have started.

No caller is left in doubt that could know: it has to decide whether to call another actor.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests import sessions

import ray
from ray.exceptions import RayActorError
from ray.testing import eventually

LIMIT_S = 40.0

session = sessions.shared(num_cpus=4, log_to_driver=False)
nothing_left = sessions.unchecked()


def leave(way: str) -> None:
    if way == "exit_actor":
        ray.exit_actor()
    sys.exit(int(way))


@ray.remote(num_cpus=0)
def nothing() -> None:
    pass


class Serial:
    def ready(self) -> None:
        pass

    def leaves(self, way: str, begun: Path, gate: Path) -> None:
        begun.touch()
        appears(gate)
        ray.get(nothing.remote())  # so that all that had been sent before has been read
        leave(way)

    def writes(self, file: Path) -> str:
        file.touch()
        return "ran"


class Async:
    async def ready(self) -> None:
        pass

    async def leaves(self, way: str, begun: Path, gate: Path) -> None:
        begun.touch()  # noqa: ASYNC240 - takes no time
        until = time.monotonic() + LIMIT_S
        while not gate.exists() and time.monotonic() < until:  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.01)
        await nothing.remote()
        if way == "stop":
            asyncio.get_running_loop().stop()
            await asyncio.sleep(LIMIT_S)
        leave(way)

    async def writes(self, file: Path) -> str:
        file.touch()  # noqa: ASYNC240
        return "ran"


KINDS = {"serial": (Serial, {}), "async": (Async, {}), "threads": (Serial, {"max_concurrency": 2})}


@ray.remote(num_cpus=0)
class Other:
    """Another caller."""

    def calls(self, actor: Any, files: list[Path]) -> list[Any]:
        return [actor.writes.remote(file) for file in files]


def appears(file: Path) -> None:
    eventually(file.exists, LIMIT_S, f"{file} is not there")


def outcomes(refs: list[Any], files: list[Path], fate: str) -> int:
    """How many have run; the others must be said not to have."""
    ran = 0
    for ref, file in zip(refs, files, strict=True):
        try:
            assert ray.get(ref, timeout=LIMIT_S) == "ran"
        except RayActorError as error:
            assert fate in str(error)  # noqa: PT017
            assert not file.exists()
        else:
            ran += 1
    return ran


@pytest.fixture(scope="module")
def other(session: Any) -> Any:
    return Other.remote()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["0", "exit_actor", "terminate"])
def test_an_end_by_plan(kind: str, way: str, other: Any, tmp_path: Path) -> None:
    cls, options = KINDS[kind]
    groups = [[tmp_path / f"{caller}{i}" for i in range(3)] for caller in ("mine", "other's", "late")]
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    actor = ray.remote(num_cpus=0, **options)(cls).remote()
    ray.get(actor.ready.remote(), timeout=LIMIT_S)
    if way == "terminate":
        actor.__ray_terminate__.remote()
        refs = [actor.writes.remote(file) for file in groups[0]]
        others = ray.get(other.calls.remote(actor, groups[1]), timeout=LIMIT_S)
    else:
        left = actor.leaves.remote(way, begun, gate)
        appears(begun)
        refs = [actor.writes.remote(file) for file in groups[0]]
        others = ray.get(other.calls.remote(actor, groups[1]), timeout=LIMIT_S)
        gate.touch()
        with pytest.raises(RayActorError, match="ended it"):
            ray.get(left, timeout=LIMIT_S)
    late = [actor.writes.remote(file) for file in groups[2]]
    ran = outcomes(refs, groups[0], "did not start")
    outcomes(others, groups[1], "did not start")
    assert outcomes(late, groups[2], "did not start") == 0
    if kind == "serial":
        assert ran == 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_end_at_once(kind: str, tmp_path: Path) -> None:
    """Calls sent together with the one that ends the actor, which it may not have read by then."""
    cls, options = KINDS[kind]
    gate = tmp_path / "gate"
    gate.touch()
    for round in range(3):
        files = [tmp_path / f"{round} {i}" for i in range(5)]
        actor = ray.remote(num_cpus=0, **options)(cls).remote()
        ray.get(actor.ready.remote(), timeout=LIMIT_S)
        left = actor.leaves.remote("exit_actor", tmp_path / "begun", gate)
        refs = [actor.writes.remote(file) for file in files]
        with pytest.raises(RayActorError, match="ended it"):
            ray.get(left, timeout=LIMIT_S)
        outcomes(refs, files, "did not start")


@pytest.mark.parametrize("kind", KINDS)
def test_the_call_that_ends_its_process_with_a_code(kind: str, tmp_path: Path) -> None:
    cls, options = KINDS[kind]
    gate = tmp_path / "gate"
    gate.touch()
    actor = ray.remote(num_cpus=0, **options)(cls).remote()
    with pytest.raises(RayActorError, match=r"sys\.exit\(3\) was called\. The call to leaves\(\) did not complete"):
        ray.get(actor.leaves.remote("3", tmp_path / "begun", gate), timeout=LIMIT_S)
    late = tmp_path / "late"
    assert outcomes([actor.writes.remote(late)], [late], "did not start") == 0


#: Kinds of actors in which a call waits behind the one that ends the process.
BEHIND: dict[str, Any] = {
    "serial": (Serial, {}),
    "groups": (Serial, {"max_concurrency": 1, "concurrency_groups": {"io": 1}}),
    "async": (Async, {"max_concurrency": 1}),
}


@pytest.mark.parametrize("restarts", [0, 1])
@pytest.mark.parametrize(("kind", "way"), [*((kind, "3") for kind in BEHIND), ("async", "stop")])
def test_calls_behind_a_failure(kind: str, way: str, restarts: int, other: Any, tmp_path: Path) -> None:
    """Those of other callers have not started either: they are told so, or run in the next process, without retries."""
    cls, options = BEHIND[kind]
    groups = [[tmp_path / f"{caller}{i}" for i in range(3)] for caller in ("mine", "other's")]
    begun, gate, first = tmp_path / "begun", tmp_path / "gate", tmp_path / "first"
    actor = ray.remote(num_cpus=0, **options)(cls).options(max_restarts=restarts).remote()
    ray.get(ray.get(other.calls.remote(actor, [first]), timeout=LIMIT_S), timeout=LIMIT_S)  # it is connected
    left = actor.leaves.remote(way, begun, gate)
    appears(begun)
    others = ray.get(other.calls.remote(actor, groups[1]), timeout=LIMIT_S)
    refs = [actor.writes.remote(file) for file in groups[0]]
    gate.touch()
    why = r"sys\.exit\(3\) was called" if way == "3" else "its event loop was stopped"
    with pytest.raises(RayActorError, match=why) as caught:
        ray.get(left, timeout=LIMIT_S)
    assert "The call to leaves() did not complete" in str(caught.value)
    for calls, files in ((refs, groups[0]), (others, groups[1])):
        assert outcomes(calls, files, "did not start") == len(files) * restarts
