"""The connection to an actor that lives is lost: nobody waits for ever, nothing runs twice, what follows runs."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import sessions
from tests.quick import first_of

import ray
from ray.exceptions import RayActorError, TaskCancelledError
from ray.testing import eventually, leaks

LIMIT_S = 10.0
PATIENCE_S = 40.0
TRANSPORTS = ["unix", *(["zmq", "routed"] if importlib.util.find_spec("ray_transport_zmq") else [])]

nothing_left = sessions.unchecked()


@pytest.fixture(scope="module", params=first_of(TRANSPORTS))
def session(request: pytest.FixtureRequest) -> Iterator[str]:
    before = leaks.snapshot()
    with ray.init(num_cpus=2, transport=request.param, log_to_driver=False):
        yield request.param
    leaks.assert_clean(before)


def sockets_to(pid: int) -> list[int]:
    """This process's descriptors of connections to another one."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            copy = os.dup(int(name))
        except OSError:
            continue
        try:
            sock = socket.socket(fileno=copy)
        except OSError:
            os.close(copy)
            continue
        with sock:
            try:
                sock.getpeername()
                peer = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            except OSError:
                continue
            if sock.family == socket.AF_UNIX and peer == pid:
                found.append(int(name))
    return found


def break_off(pid: int, how: str) -> list[int]:
    found = sockets_to(pid)
    for fd in found:
        if how == "close":
            os.close(fd)
            continue
        with socket.socket(fileno=os.dup(fd)) as sock:
            if how == "nonsense":
                sock.send(b"\xff" * 64)  # no message begins like that
            else:
                sock.shutdown(socket.SHUT_RDWR)
    assert found
    return found


def appears(file: Path) -> None:
    eventually(file.exists, PATIENCE_S, f"{file} is not there")


class Serial:
    def __init__(self) -> None:
        self.ran: list[int] = []

    def pid(self) -> int:
        return os.getpid()

    def waits(self, begun: Path, gate: Path) -> str:
        begun.touch()
        appears(gate)
        return "waited"

    def do(self, number: int) -> int:
        self.ran.append(number)
        return number

    def streams(self, count: int, begun: Path, gate: Path) -> Iterator[int]:
        for number in range(count):
            if number == count // 2:
                self.waits(begun, gate)
            yield number

    def breaks(self, pid: int, how: str) -> None:
        break_off(pid, how)

    def what(self) -> list[int]:
        return self.ran

    def calls(self, other: Any, numbers: list[int]) -> list[int]:
        return ray.get([other.do.remote(number) for number in numbers], timeout=PATIENCE_S)


class Async(Serial):
    async def pid(self) -> int:  # type: ignore[override]
        return os.getpid()

    async def waits(self, begun: Path, gate: Path) -> str:  # type: ignore[override]
        begun.touch()  # noqa: ASYNC240 - takes no time
        await asyncio.to_thread(appears, gate)
        return "waited"

    async def do(self, number: int) -> int:  # type: ignore[override]
        self.ran.append(number)
        return number

    async def breaks(self, pid: int, how: str) -> None:  # type: ignore[override]
        break_off(pid, how)

    async def what(self) -> list[int]:  # type: ignore[override]
        return self.ran


KINDS = {"serial": Serial, "async": Async}


def make(kind: str, **options: Any) -> tuple[Any, int]:
    actor = ray.remote(num_cpus=0)(KINDS[kind]).options(**options).remote()
    return actor, ray.get(actor.pid.remote(), timeout=PATIENCE_S)


def on_unix(transport: str) -> None:
    """What has nothing to do with the transport is tried with one."""
    if transport != "unix":
        pytest.skip("tried with unix")


def told(ref: Any) -> Any:
    """The value, or None if it is said that nobody knows what became of the call."""
    try:
        return ray.get(ref, timeout=LIMIT_S)
    except RayActorError as error:
        text = str(error)
    assert "goes on, but the connection to it was lost" in text
    assert "may have run, or not" in text
    return None


def meanwhile(actor: Any, pid: int, where: str, how: str, folder: Path) -> list[Any]:
    """Calls that are under way when the connection is lost."""
    begun, gate = folder / "begun", folder / "gate"
    waits = actor.waits.remote(begun, gate)
    refs = [waits, *(actor.do.remote(number) for number in range(50))]
    appears(begun)
    if where == "actor":  # the call behind this one, in a serial actor
        refs.append(actor.breaks.options(max_task_retries=0).remote(os.getpid(), how))
    else:
        break_off(pid, how)
    refs += [actor.do.remote(number) for number in range(50, 100)]
    gate.touch()
    return refs


#: Where it is done, and how.
BREAKS = [
    ("caller", "close"), ("caller", "shutdown"), ("caller", "nonsense"), ("actor", "close"), ("actor", "shutdown"),
]  # fmt: skip


def cases(transport: str) -> list[tuple[str, str, str]]:
    """(kind, where, how): ZeroMQ aborts a process that closes its descriptors, and has its own check of what comes."""
    breaks = [pair for pair in BREAKS if transport == "unix" or pair[1] == "shutdown"]
    return [(kind, *pair) for kind in KINDS for pair in breaks]


@pytest.mark.slow
def test_each_call_has_an_end_and_those_that_follow_run(session: str, tmp_path: Path) -> None:
    checks = []
    for case in cases(session):
        kind, where, how = case
        actor, pid = make(kind)
        folder = tmp_path / " ".join(case)
        folder.mkdir()
        checks.append((case, actor, pid, meanwhile(actor, pid, where, how, folder)))
    for case, actor, pid, refs in checks:
        ends = [told(ref) for ref in refs]
        after = [actor.do.remote(number) for number in range(100, 150)]
        assert ray.get(after, timeout=LIMIT_S) == list(range(100, 150)), case
        ran = ray.get(actor.what.remote(), timeout=LIMIT_S)
        assert ran == sorted(set(ran)), case  # in order, and none twice
        assert None in ends, case
        assert {end for end in ends if isinstance(end, int)} <= set(ran), case
        assert ran[-50:] == list(range(100, 150)), case
        assert ray.get(actor.pid.remote(), timeout=LIMIT_S) == pid, case


def test_calls_that_may_be_repeated_are(session: str, tmp_path: Path) -> None:
    checks = []
    for case in cases(session):
        kind, where, how = case
        actor, pid = make(kind, max_restarts=-1, max_task_retries=-1)
        folder = tmp_path / " ".join(case)
        folder.mkdir()
        checks.append((case, actor, pid, meanwhile(actor, pid, where, how, folder)))
    for case, actor, pid, refs in checks:
        values = [told(ref) for ref in refs]
        assert [value for value in values if isinstance(value, int)] == list(range(100)), case
        assert values[0] == "waited", case
        ran = ray.get(actor.what.remote(), timeout=LIMIT_S)
        assert set(ran) == set(range(100)), case
        anew = next((at for at in range(1, len(ran)) if ran[at] < ran[at - 1]), len(ran))
        assert ran[:anew] == sorted(ran[:anew]), case
        assert ran[anew:] == sorted(ran[anew:]), case
        assert ray.get(actor.pid.remote(), timeout=LIMIT_S) == pid, case


def test_other_callers_notice_nothing(session: str, tmp_path: Path) -> None:
    on_unix(session)
    actor, pid = make("serial")
    other, _ = make("serial")
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    mine = actor.waits.remote(begun, gate)
    appears(begun)
    theirs = other.calls.remote(actor, [1, 2, 3])
    break_off(pid, "shutdown")
    gate.touch()
    assert ray.get(theirs, timeout=LIMIT_S) == [1, 2, 3]
    assert told(mine) is None


@ray.remote(num_cpus=0)
def breaks_and_calls(actor: Any, pid: int, how: str) -> list[int]:
    assert ray.get(actor.do.remote(1), timeout=PATIENCE_S) == 1
    break_off(pid, how)
    told(actor.do.remote(2))
    return ray.get([actor.do.remote(number) for number in range(3, 10)], timeout=LIMIT_S)


def test_a_worker_as_the_caller(session: str) -> None:
    ways = ["shutdown", "close"] if session == "unix" else ["shutdown"]
    answers = [breaks_and_calls.remote(*make("serial"), how) for how in ways]
    assert ray.get(answers, timeout=PATIENCE_S) == [list(range(3, 10)) for _ in ways]


def test_again_and_again(session: str) -> None:
    on_unix(session)
    actor, pid = make("async")
    for number in range(2):
        break_off(pid, "shutdown")
        told(actor.do.remote(number))
        assert ray.get(actor.do.remote(10 + number), timeout=LIMIT_S) == 10 + number


@pytest.mark.parametrize("how", ["shutdown", "close"])
def test_actors_that_call_each_other(session: str, how: str) -> None:
    """One connection serves both ways."""
    on_unix(session)
    (one, _), (two, pid) = make("serial"), make("serial")
    for first, second in ((one, two), (two, one)):
        assert ray.get(first.calls.remote(second, [1, 2]), timeout=LIMIT_S) == [1, 2]
    ray.get(one.breaks.remote(pid, how), timeout=LIMIT_S)
    for first, second in ((one, two), (two, one)):
        try:
            ray.get(first.calls.remote(second, [3]), timeout=LIMIT_S)
        except RayActorError as error:
            assert "connection" in str(error)  # noqa: PT017
        assert ray.get(first.calls.remote(second, [4, 5]), timeout=LIMIT_S) == [4, 5]


@pytest.mark.parametrize("retries", [0, -1])
def test_a_stream(session: str, retries: int, tmp_path: Path) -> None:
    on_unix(session)
    actor, pid = make("serial", max_restarts=retries, max_task_retries=retries)
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    stream = actor.streams.options(num_returns="streaming").remote(10, begun, gate)
    got = [ray.get(next(stream), timeout=LIMIT_S)]
    appears(begun)
    break_off(pid, "shutdown")
    gate.touch()
    values = [told(ref) for ref in stream]
    if retries:
        assert got + values == list(range(10))
    else:
        assert values[-1] is None
        assert got + values[:-1] == list(range(len(values)))
    assert ray.get(actor.do.remote(1), timeout=LIMIT_S) == 1


def test_a_call_that_is_cancelled_meanwhile(session: str, tmp_path: Path) -> None:
    on_unix(session)
    actor, pid = make("serial")
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    waits = actor.waits.remote(begun, gate)
    appears(begun)
    break_off(pid, "shutdown")
    ray.cancel(waits)
    with pytest.raises((TaskCancelledError, RayActorError)):
        ray.get(waits, timeout=LIMIT_S)
    gate.touch()
    assert ray.get(actor.do.remote(1), timeout=LIMIT_S) == 1
