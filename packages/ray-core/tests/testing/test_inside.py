"""What tests see of the inside of a session."""

from __future__ import annotations

import gc
import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ray
from ray.exceptions import ObjectLostError, PluginNotInstalledError, RayConnectionError
from ray.ids import OBJECT_ID_BYTES
from ray.protocol.references import PENDING
from ray.testing import eventually, inside, leaks

BIG = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    """One session with processes; afterwards there is nothing to look into."""
    before = leaks.snapshot()
    ray.init(num_cpus=2, store="heap", log_to_driver=False)
    yield
    ray.shutdown()
    leaks.assert_clean(before)
    assert inside.session_dir() is None
    with pytest.raises(RayConnectionError):
        inside.entries()


@pytest.fixture(autouse=True)
def nothing_held() -> Iterator[None]:
    yield
    gc.collect()
    inside.settled()
    eventually(lambda: not inside.entries(), why="something is held")


@ray.remote
def wait_for(gate: Path) -> int:
    eventually(gate.exists, 30)
    return 7


def test_the_directory_is_that_of_the_session() -> None:
    directory = inside.session_dir()
    assert directory is not None
    assert Path(directory).is_dir()


def test_settled_waits_for_what_runs(tmp_path: Path) -> None:
    ref = wait_for.remote(tmp_path / "gate")
    eventually(lambda: ray.available_resources().get("CPU") != 2)
    with pytest.raises(leaks.LeakError, match="CPU: 1 of 2 free"):
        inside.settled(0.1)
    (tmp_path / "gate").touch()
    inside.settled()
    assert ray.get(ref) == 7


def test_the_node_answers() -> None:
    assert isinstance(inside.ask_node("workers")["pids"], list)
    with pytest.raises(ValueError, match="nonsense"):
        inside.ask_node("nonsense")


def test_leases_count_what_workers_have_not_answered(tmp_path: Path) -> None:
    ref = wait_for.remote(tmp_path / "gate")
    eventually(lambda: inside.leases() == [1])
    (tmp_path / "gate").touch()
    assert ray.get(ref) == 7
    eventually(lambda: not inside.leases(), why="the lease is kept")


def test_while_it_stands_still_no_result_arrives(tmp_path: Path) -> None:
    ref = wait_for.remote(tmp_path / "gate")
    with inside.standing_still():
        (tmp_path / "gate").touch()
        time.sleep(0.2)
        assert inside.entries()[ref.binary()].status == PENDING
    assert ray.get(ref) == 7


def test_entries_are_there_for_as_long_as_refs_are() -> None:
    ref = ray.put(1)
    assert list(inside.entries()) == [ref.binary()]
    del ref
    eventually(lambda: not inside.entries())


def test_listeners_and_watchers_are_counted(tmp_path: Path) -> None:
    ref = wait_for.remote(tmp_path / "gate")
    assert (inside.listeners(), inside.watchers()) == (0, 0)
    future = ref.future()
    assert inside.listeners() + inside.watchers() > 0
    (tmp_path / "gate").touch()
    assert future.result(20) == 7
    eventually(lambda: inside.listeners() + inside.watchers() == 0)


def test_an_object_of_an_owner_that_nobody_reaches_is_lost() -> None:
    ref = inside.foreign_ref(bytes(OBJECT_ID_BYTES), "unix:/nobody/is/here")
    with pytest.raises(ObjectLostError):
        ray.get(ref, timeout=20)


def test_what_is_stored_is_counted() -> None:
    assert not inside.shares_memory()
    ref = ray.put(bytes(BIG))
    inside.store().put(b"x" * OBJECT_ID_BYTES, [bytes(BIG)], BIG)
    assert BIG <= inside.stored_bytes() < 3 * BIG
    assert inside.spilled_bytes() == 0
    assert bytes(inside.stored_view(b"x" * OBJECT_ID_BYTES)) == bytes(BIG)
    inside.store().delete(b"x" * OBJECT_ID_BYTES)
    del ref
    eventually(lambda: not inside.stored_bytes())


def test_local_mode_has_no_such_inside() -> None:
    """It ends the session, as the test after it does."""
    ray.shutdown()
    with ray.init(local_mode=True):
        assert inside.session_dir() is None
        inside.settled()
        with pytest.raises(AssertionError, match="in local mode"):
            inside.entries()
    ray.init(num_cpus=2, store="heap", log_to_driver=False)


@pytest.mark.skipif(not importlib.util.find_spec("ray_async"), reason="ray-async is not installed")
def test_an_executor_is_forgotten() -> None:
    @ray.remote
    class Async:
        async def call(self) -> int:
            return 1

    assert ray.get(Async.remote().call.remote()) == 1
    inside.forget_executor("asyncio")
    with pytest.raises(PluginNotInstalledError):
        Async.remote()
    ray.shutdown()
    ray.init(num_cpus=2, store="heap", log_to_driver=False)
