"""Large values between nodes that have stores of their own: where they are, how often they travel, and their ends."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import datetime
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests import moved_values
from tests.moved_values import mover_of
from tests.quick import first_of
from tests.redis_servers import server_binary

import ray
from ray.abc.store import Store
from ray.plugins.compose import Composition
from ray.runtime.process.session_dirs import session_in
from ray.testing import eventually, inside, leaks
from ray.testing.cluster import Cluster, ClusterNode

FAR = {"resources": {"far": 1}}
LIMIT_S = 40
LIMIT = datetime.timedelta(seconds=LIMIT_S)
MiB = 1 << 20
#: Of one value in most of these tests.
NBYTES = 5 * MiB

joins = pytest.mark.usefixtures("joined")

KEEPS_CLUSTERS = True
#: {node: bytes that had come to it when the test began}
_before: dict[str, int] = {}


@pytest.fixture(autouse=True)
def received_before(request: pytest.FixtureRequest) -> None:
    """Nodes that are kept have got values of other tests."""
    _before.clear()
    if "cluster" in request.fixturenames:
        _before.update((node.node_id, received(node)) for node in request.getfixturevalue("cluster").nodes)


STORES = ["plasma", pytest.param("shm", marks=pytest.mark.slow)]


def both_stores(test: Any) -> Any:
    """The program is a driver at the head of a cluster with either store."""
    return joins(pytest.mark.parametrize("cluster", STORES, indirect=True)(test))


@contextlib.contextmanager
def store_of(cluster: Cluster, number: int) -> Iterator[Store]:
    """The store of a node, as a process of that node has it."""
    address = session_in(cluster.nodes[number].started.session_dir).store_address
    with contextlib.closing(Composition(cluster.plan).open_store(address)) as store:
        yield store


def stored(cluster: Cluster) -> list[int]:
    """How many objects each node has."""
    return [moved_values.stored(cluster, node) for node in cluster.nodes]


def received(node: ClusterNode) -> int:
    """How many bytes have come to a node over data connections, during this test."""
    return moved_values.received(node) - _before.get(node.node_id, 0)


def is_empty(cluster: Cluster) -> None:
    eventually(lambda: stored(cluster) == [0] * len(cluster.nodes), 10, lambda: f"objects are left: {stored(cluster)}")


@ray.remote(**FAR)
def make(seed: int, nbytes: int = NBYTES) -> bytes:
    return pattern(seed, nbytes)


def pattern(seed: int, nbytes: int = NBYTES) -> bytes:
    block = bytes((seed + index * index) % 251 for index in range(4099))
    return (block * (nbytes // len(block) + 1))[:nbytes]


@ray.remote(**FAR)
def look(value: bytes) -> tuple[int, str]:
    return sum(value[::4096]), ray.get_runtime_context().node_id


@both_stores
def test_a_large_result_stays_where_it_is_made_until_it_is_read(cluster: Cluster) -> None:
    ref = make.remote(1)
    assert ray.wait([ref], timeout=LIMIT) == ([ref], [])
    assert stored(cluster) == [0, 1]
    assert received(cluster.nodes[0]) == 0
    assert ray.get(ref, timeout=LIMIT_S) == pattern(1)
    assert ray.get(ref) == pattern(1)
    assert stored(cluster) == [1, 1]
    assert NBYTES < received(cluster.nodes[0]) < NBYTES + 4096
    del ref
    is_empty(cluster)


@both_stores
def test_what_is_small_travels_in_messages(cluster: Cluster) -> None:
    assert ray.get(make.remote(2, MiB // 2), timeout=LIMIT_S) == pattern(2, MiB // 2)
    assert [received(node) for node in cluster.nodes] == [0, 0]
    is_empty(cluster)


@both_stores
def test_a_task_reads_an_argument_where_it_is(cluster: Cluster) -> None:
    ref = make.remote(3)
    expected = sum(pattern(3)[::4096]), cluster.nodes[1].node_id
    assert ray.get([look.remote(ref) for _ in range(3)], timeout=LIMIT_S) == [expected] * 3
    assert [received(node) for node in cluster.nodes] == [0, 0]
    del ref
    is_empty(cluster)


@both_stores
def test_an_argument_of_the_driver_comes_once(cluster: Cluster) -> None:
    """For all that need it while somebody does: here an actor of that node, which has the ref as well."""

    @ray.remote(num_cpus=0, **FAR)
    class Holder:
        def __init__(self, refs: list[ray.ObjectRef[bytes]]) -> None:
            self.refs = refs

        def look(self) -> tuple[int, str]:
            return sum(ray.get(self.refs[0])[::4096]), ray.get_runtime_context().node_id

    value = pattern(4)
    ref = ray.put(value)
    expected = sum(value[::4096]), cluster.nodes[1].node_id
    holder = Holder.remote([ref])
    assert ray.get(holder.look.remote(), timeout=LIMIT_S) == expected
    assert ray.get([look.remote(ref) for _ in range(8)], timeout=LIMIT_S) == [expected] * 8
    assert NBYTES < received(cluster.nodes[1]) < 2 * NBYTES
    assert ray.get(look.remote(value), timeout=LIMIT_S) == expected  # as part of the arguments, not by reference
    del ref, holder
    is_empty(cluster)


@both_stores
def test_a_ref_inside_is_read_from_any_node(cluster: Cluster) -> None:
    @ray.remote(num_cpus=0)
    def first(refs: list[ray.ObjectRef[bytes]]) -> tuple[int, str]:
        return sum(ray.get(refs[0])[::4096]), ray.get_runtime_context().node_id

    made, put = make.remote(5), ray.put(pattern(6))
    local = first.options(resources={}).remote
    for ref, seed in ((made, 5), (put, 6)):
        for where in (first.options(**FAR).remote, local):
            assert ray.get(where([ref]), timeout=LIMIT_S)[0] == sum(pattern(seed)[::4096])
    del made, put, ref
    is_empty(cluster)


def get(found: list[bytes], ref: ray.ObjectRef[bytes]) -> None:
    found.append(ray.get(ref, timeout=LIMIT_S))


async def awaited(ref: ray.ObjectRef[bytes], count: int) -> list[bytes]:
    async def one() -> bytes:
        return await ref

    return list(await asyncio.gather(*(one() for _ in range(count))))


@both_stores
def test_many_askers_and_one_transfer(cluster: Cluster) -> None:
    @ray.remote(num_cpus=0.01)
    def read(refs: list[ray.ObjectRef[bytes]]) -> int:
        return sum(ray.get(refs[0])[::4096])

    ref = make.remote(7)
    ray.wait([ref], timeout=LIMIT)
    found: list[bytes] = []
    threads = [threading.Thread(target=get, args=(found, ref)) for _ in range(6)]
    for thread in threads:
        thread.start()

    found += asyncio.run(awaited(ref, 3))
    for thread in threads:
        thread.join()
    assert found == [pattern(7)] * 9
    assert set(ray.get([read.remote([ref]) for _ in range(4)], timeout=LIMIT_S)) == {sum(pattern(7)[::4096])}
    assert received(cluster.nodes[0]) < 2 * NBYTES
    del ref
    is_empty(cluster)


@both_stores
def test_streams_and_actors(cluster: Cluster) -> None:
    @ray.remote(**FAR)
    class Far:
        def __init__(self, value: bytes) -> None:
            self.value = value

        def get(self) -> bytes:
            return self.value

        def put(self) -> list[ray.ObjectRef[bytes]]:
            return [ray.put(self.value)]

    @ray.remote(num_returns="streaming", **FAR)
    def yields() -> Iterator[bytes]:
        for seed in range(4):
            yield pattern(seed, 2 * MiB)

    actor = Far.remote(pattern(8))
    assert ray.get(actor.get.remote(), timeout=LIMIT_S) == pattern(8)
    (inner,) = ray.get(actor.put.remote(), timeout=LIMIT_S)
    assert ray.get(inner, timeout=LIMIT_S) == pattern(8)
    assert [ray.get(ref, timeout=LIMIT_S) for ref in yields.remote()] == [pattern(seed, 2 * MiB) for seed in range(4)]
    assert received(cluster.nodes[0]) > 10 * MiB
    del actor, inner
    is_empty(cluster)


# --- failures ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def get_all(found: list[bytes], refs: list[ray.ObjectRef[bytes]]) -> None:
    found += ray.get(refs, timeout=LIMIT_S)


@both_stores
@pytest.mark.parametrize("which", first_of([0, 1]), ids=["receiver", "holder"])
def test_an_object_manager_that_is_killed_is_replaced(cluster: Cluster, which: int) -> None:
    refs = [make.remote(seed, 10 * MiB) for seed in range(4)]
    ray.wait(refs, num_returns=4, timeout=LIMIT)
    found: list[bytes] = []
    thread = threading.Thread(target=get_all, args=(found, refs))
    thread.start()
    for _ in range(3):
        with contextlib.suppress(ProcessLookupError):
            os.kill(mover_of(cluster.nodes[which]), signal.SIGKILL)
        time.sleep(0.02)
    thread.join(LIMIT_S)
    assert found == [pattern(seed, 10 * MiB) for seed in range(4)]
    del refs, found
    is_empty(cluster)


@both_stores
def test_a_holder_that_stands_still_is_replaced(cluster: Cluster) -> None:
    ref = make.remote(1)
    ray.wait([ref], timeout=LIMIT)
    with stopped(mover_of(cluster.nodes[1])):
        assert ray.get(ref, timeout=LIMIT_S) == pattern(1)
    del ref
    is_empty(cluster)


@both_stores
def test_what_was_on_a_node_that_has_died_is_lost(cluster: Cluster) -> None:
    kept, read = make.remote(1), make.remote(2)
    assert ray.get(read, timeout=LIMIT_S) == pattern(2)
    ray.wait([kept], timeout=LIMIT)
    dead = cluster.nodes[1]
    cluster.kill(dead)
    eventually(lambda: sum(row["Alive"] for row in ray.nodes()) == 1, 10, "the node is known to be dead")
    assert ray.get(read, timeout=LIMIT_S) == pattern(2)  # its copy is here
    whose = rf"it was on the node {dead.name} \(at 127\.0\.0\.1, NodeID {dead.node_id}\), which is dead: "
    with pytest.raises(ray.exceptions.ObjectLostError, match=whose):
        ray.get(kept, timeout=LIMIT_S)
    del kept, read
    is_empty(cluster)


@both_stores
def test_a_node_that_dies_while_its_values_come(cluster: Cluster) -> None:
    refs = [make.remote(seed, 12 * MiB) for seed in range(4)]
    ray.wait(refs, num_returns=4, timeout=LIMIT)
    with stopped(mover_of(cluster.nodes[1])):
        raised: list[BaseException] = []
        thread = threading.Thread(target=catch, args=(raised, refs))
        thread.start()
        time.sleep(0.2)
        cluster.kill(cluster.nodes[1])
        thread.join(LIMIT_S)
    assert [type(error) for error in raised] == [ray.exceptions.ObjectLostError]


def catch(raised: list[BaseException], refs: list[ray.ObjectRef[bytes]]) -> None:
    try:
        ray.get(refs, timeout=LIMIT_S)
    except BaseException as error:
        raised.append(error)


@both_stores
def test_get_waits_no_longer_than_it_is_told(cluster: Cluster) -> None:
    ref = make.remote(1)
    ray.wait([ref], timeout=LIMIT)
    with stopped(mover_of(cluster.nodes[0])):
        for wanted in (ref, [ref]):
            began = time.monotonic()
            with pytest.raises(ray.exceptions.GetTimeoutError):
                ray.get(wanted, timeout=0.3)
            assert time.monotonic() - began < 2.5
    assert ray.get(ref, timeout=LIMIT_S) == pattern(1)


@ray.remote(**FAR)
def make_later(delay_s: float, seed: int = 1) -> bytes:
    time.sleep(delay_s)
    return pattern(seed)


@both_stores
def test_a_limit_is_for_the_task_and_the_way_together(cluster: Cluster) -> None:
    ray.get(make.remote(0), timeout=LIMIT_S)  # there is a worker
    several = make.remote(2), make.remote(3)
    ray.wait(list(several), num_returns=2, timeout=LIMIT)
    for refs in (make_later.remote(0.6), [make_later.remote(0.6), *several]):
        with stopped(mover_of(cluster.nodes[0])):
            began = time.monotonic()
            with pytest.raises(ray.exceptions.GetTimeoutError):
                ray.get(refs, timeout=1.0)
            assert 0.95 < time.monotonic() - began < 1.5


@both_stores
def test_limits_of_those_that_await(cluster: Cluster) -> None:
    refs = [make.remote(seed) for seed in range(6)]
    ray.wait(refs, num_returns=6, timeout=LIMIT)
    mine = ray.put(pattern(9))

    async def all_of_them() -> None:
        began = time.monotonic()
        waits = [asyncio.wait_for(ref.as_future(), 0.5) for ref in refs]
        found = await asyncio.gather(*waits, return_exceptions=True)
        assert {type(each) for each in found} == {TimeoutError}
        assert time.monotonic() - began < 1.5
        assert await asyncio.wait_for(mine.as_future(), 5) == pattern(9)

    with stopped(mover_of(cluster.nodes[0])):
        asyncio.run(all_of_them())
        assert not [thread for thread in threading.enumerate() if thread.name == "ray-restore"]
    assert asyncio.run(awaited(refs[0], 1)) == [pattern(0)]


@both_stores
def test_futures_and_callbacks_have_values_that_are_elsewhere(cluster: Cluster) -> None:
    async def waited(ref: ray.ObjectRef[bytes]) -> bytes:
        done, _ = await asyncio.wait([ref])
        return done.pop().result()

    async def wrapped(ref: ray.ObjectRef[bytes]) -> bytes:
        return await asyncio.wrap_future(ref.future())

    assert make.remote(1).future().result(timeout=LIMIT_S) == pattern(1)
    assert make.remote(2).future().exception(timeout=LIMIT_S) is None
    assert asyncio.run(waited(make.remote(3))) == pattern(3)
    assert asyncio.run(wrapped(make.remote(4))) == pattern(4)
    futures = [make.remote(seed).future() for seed in range(3)]
    assert {future.result() for future in concurrent.futures.as_completed(futures)} == {
        pattern(0),
        pattern(1),
        pattern(2),
    }
    ref = make.remote(5)
    ray.wait([ref], timeout=LIMIT)
    with stopped(mover_of(cluster.nodes[0])):
        for call in (ref.future().result, ref.future().exception):
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                call(timeout=0.4)
            assert 0.35 < time.monotonic() - began < 1.0
    assert ref.result() == pattern(5)


@both_stores
def test_wait_brings_values_if_it_is_to(cluster: Cluster) -> None:
    refs = [make.remote(seed) for seed in range(4)]
    assert ray.wait(refs[:1], timeout=LIMIT) == (refs[:1], [])
    assert received(cluster.nodes[0]) == 0
    assert ray.wait(refs, num_returns=4, timeout=LIMIT, fetch_local=True) == (refs, [])
    assert received(cluster.nodes[0]) > 4 * NBYTES
    with stopped(mover_of(cluster.nodes[0])):
        assert [ray.get(ref, timeout=0) for ref in refs] == [pattern(seed) for seed in range(4)]
    failed = fails.remote()
    mine = ray.put(pattern(9))
    assert ray.wait([failed, mine], num_returns=2, timeout=LIMIT, fetch_local=True) == ([failed, mine], [])
    assert received(cluster.nodes[0]) < 4 * NBYTES + 4096


@ray.remote(**FAR)
def fails() -> None:
    raise ValueError("no")


@both_stores
def test_wait_for_values_that_do_not_come_yet(cluster: Cluster) -> None:
    ref, mine = make.remote(1), ray.put(1)
    ray.wait([ref], timeout=LIMIT)
    with stopped(mover_of(cluster.nodes[0])):
        began = time.monotonic()
        assert ray.wait([ref, mine], num_returns=2, timeout=300, fetch_local=True) == ([mine], [ref])
        assert 0.25 < time.monotonic() - began < 1.2
        assert ray.wait([ref], timeout=0, fetch_local=True) == ([], [ref])
    eventually(lambda: ray.wait([ref], timeout=0, fetch_local=True) == ([ref], []), 10, "it comes")
    assert ray.get(ref, timeout=0) == pattern(1)


@both_stores
def test_what_wait_cannot_bring_is_as_ready_as_it_gets(cluster: Cluster) -> None:
    ref = make.remote(1)
    ray.wait([ref], timeout=LIMIT)
    with stopped(mover_of(cluster.nodes[0])):
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(ray.wait([ref], timeout=LIMIT, fetch_local=True)))
        thread.start()
        time.sleep(0.2)
        cluster.kill(cluster.nodes[1])
        thread.join(LIMIT_S)
        assert found == [([ref], [])]
    with pytest.raises(ray.exceptions.ObjectLostError):
        ray.get(ref, timeout=LIMIT_S)


@both_stores
def test_a_receiver_without_room(cluster: Cluster) -> None:
    mine = [ray.put(bytearray(12 * MiB)) for _ in range(4)]
    ref = make.remote(1, 30 * MiB)
    if cluster.plan.store.name == "plasma":
        assert ray.get(ref, timeout=LIMIT_S) == pattern(1, 30 * MiB)  # what is there goes to the disk
    else:
        with pytest.raises(ray.exceptions.ObjectStoreFullError, match=cluster.nodes[0].node_id):
            ray.get(ref, timeout=LIMIT_S)
        del mine[1:]
        assert ray.get(ref, timeout=LIMIT_S) == pattern(1, 30 * MiB)


@both_stores
def test_results_that_have_no_room_where_they_are_made(cluster: Cluster) -> None:
    refs = [make.remote(seed, 12 * MiB) for seed in range(12)]
    for seed, ref in enumerate(refs):
        assert ray.get(ref, timeout=LIMIT_S) == pattern(seed, 12 * MiB)
        refs[seed] = None
    del ref
    is_empty(cluster)


@both_stores
def test_arguments_that_do_not_fit_together(cluster: Cluster) -> None:
    refs = [ray.put(pattern(seed, 12 * MiB)) for seed in range(4)]
    looks = [look.remote(refs[seed % 4]) for seed in range(10)]
    mine = make.remote(9)
    assert ray.get(mine, timeout=LIMIT_S) == pattern(9)
    found = ray.get(looks, timeout=LIMIT_S)
    assert [count for count, _ in found] == [sum(pattern(seed % 4, 12 * MiB)[::4096]) for seed in range(10)]


@both_stores
def test_what_a_process_owned_goes_with_it(cluster: Cluster) -> None:
    @ray.remote(num_cpus=0)
    class Owner:
        def submit(self) -> int:
            self.refs = [make.remote(seed) for seed in range(3)]
            ray.wait(self.refs, num_returns=3)
            return os.getpid()

    owner = Owner.remote()
    pid = ray.get(owner.submit.remote(), timeout=LIMIT_S)
    with store_of(cluster, 1) as store:
        assert store.stats().objects == 3
    os.kill(pid, signal.SIGKILL)
    is_empty(cluster)


@both_stores
def test_the_result_of_a_worker_that_dies_before_it_says_so(cluster: Cluster, tmp_path: object) -> None:
    @ray.remote(max_retries=2, **FAR)
    def twice(path: str) -> bytes:
        if not os.path.exists(path):
            open(path, "w").close()
            inside.die_with_next_result()
            return pattern(1)
        return pattern(2)

    ref = twice.remote(f"{tmp_path}/ran")
    assert ray.get(ref, timeout=LIMIT_S) == pattern(2)
    del ref
    is_empty(cluster)


@both_stores
def test_an_async_actor_goes_on_while_its_argument_comes(cluster: Cluster) -> None:
    @ray.remote(num_cpus=0)
    class Busy:
        def __init__(self) -> None:
            self.steps = 0

        async def count(self) -> None:
            while True:
                self.steps += 1
                await asyncio.sleep(0.01)

        @ray.method(concurrency_group="others")
        async def counted(self) -> int:
            return self.steps

        async def look(self, value: bytes) -> int:
            return sum(value[::4096])

    busy = Busy.options(concurrency_groups={"others": 2}).remote()
    forever = busy.count.remote()
    ref = make.remote(1)
    ray.wait([ref], timeout=LIMIT)
    with stopped(mover_of(cluster.nodes[1])):
        looked = busy.look.remote(ref)
        time.sleep(0.3)
        first = ray.get(busy.counted.remote(), timeout=2)
        time.sleep(0.2)
        assert ray.get(busy.counted.remote(), timeout=2) > first
    assert ray.get(looked, timeout=LIMIT_S) == sum(pattern(1)[::4096])
    ray.cancel(forever)


PROGRAM = """
import sys, time
import ray
ray.init(sys.argv[1])

@ray.remote(resources={"far": 1})
def make(nbytes):
    return bytes(nbytes)

@ray.remote(resources={"far": 1})
class Keeper:
    def keep(self, refs):
        self.values = ray.get(refs)
        return len(self.values)

keeper = Keeper.remote()
kept = [ray.put(bytes(3 << 20)) for _ in range(3)]
refs = [make.remote(2 << 20) for _ in range(4)]
ray.get(refs[:2])
print(ray.get(keeper.keep.remote(kept)), flush=True)
sys.stdin.readline()
"""


@both_stores
def test_a_driver_that_is_killed_leaves_nothing(cluster: Cluster) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, cluster.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "3\n"
        assert min(stored(cluster)) >= 3
        driver.kill()
    is_empty(cluster)


@pytest.mark.parametrize("encryption", first_of(["aes-gcm", "none"]))
def test_what_is_encrypted_comes_as_it_was(encryption: str) -> None:
    pytest.importorskip("cryptography")
    server_binary()
    before = leaks.snapshot()
    with Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2}, store="plasma", data_encryption=encryption
    ) as cluster:
        cluster.add_node(num_cpus=2, resources={"far": 4})
        cluster.wait_for_nodes()
        with ray.init(cluster.address):
            ref, put = make.remote(1), ray.put(pattern(2))
            assert ray.get(ref, timeout=LIMIT_S) == pattern(1)
            assert ray.get(look.remote(put), timeout=LIMIT_S)[0] == sum(pattern(2)[::4096])
            assert min(received(node) for node in cluster.nodes) > NBYTES
            del ref, put
            is_empty(cluster)
    leaks.assert_clean(before)
