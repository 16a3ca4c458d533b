"""Locks and the like: waits, ends of holders, leases and names."""

import asyncio
import os
import pickle
import signal
import threading
import time

import pytest
from tests.sessions import shared, unchecked

import ray
from ray.exceptions import RayActorError, WorkerCrashedError
from ray.testing import eventually
from ray.util.queue import Queue
from ray.util.sync import Barrier, BrokenBarrierError, Event, Lock, Semaphore, Variable

session = shared(num_cpus=4)
nothing_left = unchecked()


@ray.remote(max_retries=0)
def hold(lock, pids):
    with lock:
        pids.put(os.getpid())
        time.sleep(600)


@ray.remote(num_cpus=0, max_retries=0)
def take_turns(lock, order, number):
    with lock:
        order.put(number)


@ray.remote(num_cpus=0, max_retries=0)
def pass_barrier(barrier, pids=None):
    if pids is not None:
        pids.put(os.getpid())
    return barrier.wait()


def test_one_at_a_time():
    lock = Lock()
    assert not lock.locked()
    with lock:
        assert lock.locked()
        for acquire in (lambda: lock.acquire(blocking=False), lambda: lock.acquire(timeout=0)):
            assert not acquire()
        assert not lock.acquire(timeout=0.1)
    assert not lock.locked()
    with pytest.raises(RuntimeError, match="has not acquired"):
        lock.release()
    with pytest.raises(ValueError, match="non-negative"):
        lock.acquire(timeout=-1)


def test_it_excludes(tmp_path):
    path = tmp_path / "count"
    path.write_text("0")

    @ray.remote
    def add(lock, times):
        for _ in range(times):
            with lock:
                path.write_text(str(int(path.read_text()) + 1))

    lock = Lock()
    ray.get([add.remote(lock, 25) for _ in range(4)])
    assert path.read_text() == "100"


def test_first_come_first_served():
    lock, order = Lock(), Queue()
    refs = []
    with lock:
        for number in range(6):
            refs.append(take_turns.remote(lock, order, number))
            eventually(lambda number=number: ray.get(lock._actor.waiting.remote()) == number + 1)
    ray.get(refs)
    assert order.get_nowait_batch(6) == list(range(6))


def test_it_comes_back_when_its_holder_is_killed():
    lock, pids = Lock(), Queue()
    ref = hold.remote(lock, pids)
    pid = pids.get(timeout=30)
    assert not lock.acquire(blocking=False)
    os.kill(pid, signal.SIGKILL)
    assert lock.acquire(timeout=20)
    with pytest.raises(WorkerCrashedError):
        ray.get(ref)
    lock.release()


def test_a_killed_process_in_the_line_is_passed_over():
    lock, pids = Lock(), Queue()
    with lock:

        @ray.remote(max_retries=0)
        def wait(lock, pids):
            pids.put(os.getpid())
            lock.acquire()

        ref = wait.remote(lock, pids)
        pid = pids.get(timeout=30)
        eventually(lambda: ray.get(lock._actor.waiting.remote()) == 1)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: ray.get(lock._actor.waiting.remote()) == 0)
    with pytest.raises(WorkerCrashedError):
        ray.get(ref)
    assert lock.acquire(timeout=20)


def test_it_comes_back_when_the_object_is_gone():
    lock = Lock()
    copy = pickle.loads(pickle.dumps(lock))
    assert copy.acquire()
    with pytest.raises(RuntimeError, match="has not acquired"):
        lock.release()
    assert not lock.acquire(blocking=False)
    del copy
    assert lock.acquire(timeout=20)


def test_a_stopped_holder_keeps_it():
    lock, pids = Lock(), Queue()
    ref = hold.remote(lock, pids)
    pid = pids.get(timeout=30)
    os.kill(pid, signal.SIGSTOP)
    assert not lock.acquire(timeout=1)
    os.kill(pid, signal.SIGKILL)
    assert lock.acquire(timeout=20)
    with pytest.raises(WorkerCrashedError):
        ray.get(ref)


def test_a_lease_ends():
    lock = Lock(lease_s=0.2)
    other = pickle.loads(pickle.dumps(lock))
    assert lock.acquire()
    started = time.monotonic()
    assert other.acquire(timeout=20)
    assert time.monotonic() - started > 0.1
    with pytest.raises(RuntimeError, match=r"0\.2 s were over"):
        lock.release()
    other.release()
    with pytest.raises(ValueError, match="lease_s"):
        Lock(lease_s=0)


def test_a_semaphore_has_places():
    semaphore = Semaphore(2)
    assert semaphore.acquire()
    assert not semaphore.locked()
    assert semaphore.acquire()
    assert semaphore.locked()
    assert not semaphore.acquire(timeout=0.1)
    semaphore.release()
    assert semaphore.acquire()
    with pytest.raises(ValueError, match="at least 1"):
        Semaphore(0)


def test_threads_share_one():
    lock, inside, most = Lock(), [], []

    def run():
        for _ in range(10):
            with lock:
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) == 40


def test_on_a_loop():
    lock, event, variable = Lock(), Event(), Variable()

    async def main():
        async with lock:
            assert not await lock.acquire_async(timeout=0.1)
            waiting = asyncio.ensure_future(lock.acquire_async())
            await asyncio.sleep(0.1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert await lock.acquire_async(timeout=20)
        await lock.release_async()
        waits = [asyncio.ensure_future(each) for each in (event.wait_async(), variable.get_async())]
        await asyncio.sleep(0.1)
        await event.set_async()
        await variable.set_async("value")
        assert await asyncio.gather(*waits) == [True, "value"]

    asyncio.run(main())


def test_events():
    event = Event()

    @ray.remote
    def wait(event, timeout):
        return event.wait(timeout)

    assert not event.is_set()
    assert not event.wait(timeout=0.1)
    refs = [wait.remote(event, 30) for _ in range(3)]
    event.set()
    assert ray.get(refs) == [True] * 3
    assert event.wait()
    event.clear()
    assert not event.wait(timeout=0)


def test_a_barrier_lets_all_go_on():
    barrier = Barrier(3)
    for _ in range(3):
        assert sorted(ray.get([pass_barrier.remote(barrier) for _ in range(3)])) == [0, 1, 2]
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)


def test_a_barrier_breaks_with_a_timeout():
    barrier = Barrier(2, timeout=5)
    with pytest.raises(BrokenBarrierError):
        barrier.wait(timeout=0.2)
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    assert not barrier.broken
    refs = [pass_barrier.remote(barrier) for _ in range(2)]
    assert sorted(ray.get(refs)) == [0, 1]


def test_a_barrier_breaks_with_a_process():
    barrier, pids = Barrier(3), Queue()
    waits, dies = pass_barrier.remote(barrier), pass_barrier.remote(barrier, pids)
    pid = pids.get(timeout=30)
    eventually(lambda: barrier.n_waiting == 2)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(BrokenBarrierError):
        ray.get(waits, timeout=20)
    with pytest.raises(WorkerCrashedError):
        ray.get(dies)


def test_abort():
    barrier = Barrier(2)
    waits = pass_barrier.remote(barrier)
    eventually(lambda: barrier.n_waiting == 1)
    barrier.abort()
    with pytest.raises(BrokenBarrierError):
        ray.get(waits, timeout=20)


def test_variables():
    variable = Variable()

    @ray.remote
    def read(variable):
        return variable.get()

    with pytest.raises(TimeoutError, match="had no value"):
        variable.get(timeout=0.1)
    with pytest.raises(TimeoutError):
        variable.get(timeout=0)
    refs = [read.remote(variable) for _ in range(2)]
    variable.set({"a": 1})
    assert ray.get(refs) == [{"a": 1}] * 2
    variable.set(ray.put(2))
    assert ray.get(variable.get()) == 2
    variable.clear()
    with pytest.raises(TimeoutError):
        variable.get(timeout=0.1)


def test_names():
    @ray.remote
    def taken():
        lock = Lock(name="named")
        return lock.acquire(blocking=False)

    lock = Lock(name="named")
    with lock:
        assert not ray.get(taken.remote())
    assert ray.get(taken.remote())
    assert lock.acquire(timeout=20)
    Semaphore(3, name="named").delete()  # of another kind, so another one
    Semaphore(3, name="three")
    with pytest.raises(ValueError, match="made with 3; this one is to have 4"):
        Semaphore(4, name="three")
    with pytest.raises(ValueError, match="needs name="):
        Lock(namespace="there")
    lock.delete()
    with pytest.raises(RayActorError):
        lock.release()


def test_deleted_while_somebody_waits():
    lock = Lock(name="deleted")
    lock.acquire()
    order = Queue()
    ref = take_turns.remote(lock, order, 1)
    eventually(lambda: ray.get(lock._actor.waiting.remote()) == 1)
    lock.delete()
    with pytest.raises(RayActorError):
        ray.get(ref, timeout=20)


@pytest.mark.parametrize("given", [float("nan"), 1.5, "1", True])
def test_numbers_that_are_none_are_refused(given):
    for make in (Semaphore, Barrier):
        with pytest.raises(TypeError, match="whole number"):
            make(given)


def test_nan_is_no_time():
    nan = float("nan")
    barrier = Barrier(2)
    with pytest.raises(ValueError, match="non-negative"):
        barrier.wait(nan)
    assert not barrier.broken
    for wait in (Event().wait, Variable().get, lambda limit: Lock().acquire(timeout=limit)):
        with pytest.raises(ValueError, match="non-negative"):
            wait(nan)
    with pytest.raises(ValueError, match="lease_s"):
        Lock(lease_s=nan)
