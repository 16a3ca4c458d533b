"""``Queue``: order, batches, waits that end, and items that are never lost."""

import asyncio
import os
import queue
import signal
import threading
import time
import weakref

import pytest
from tests.sessions import shared, unchecked

import ray
from ray.exceptions import RayActorError
from ray.testing import eventually
from ray.util.queue import Empty, Full, Queue

session = shared(num_cpus=4)
nothing_left = unchecked()


@ray.remote
def consume(q, count):
    return [q.get() for _ in range(count)]


@ray.remote(max_retries=0)
def get_one(q, pids):
    pids.put(os.getpid())
    return q.get()


@ray.remote(max_retries=0)
def put_one(q, item, pids):
    pids.put(os.getpid())
    q.put(item)


def killed(task, *args):
    """Have a task wait, and kill its process."""
    pids = Queue()
    ref = task.remote(*args, pids)
    pid = pids.get(timeout=30)
    time.sleep(0.2)  # it waits by then, or dies before: either way the rest holds
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(ref)


def test_first_in_first_out():
    q = Queue()
    items = list(range(10))
    for item in items:
        q.put(item)
    assert (q.size(), q.qsize(), len(q), q.empty(), q.full()) == (10, 10, 10, False, False)
    assert [q.get() for _ in items] == items
    assert q.empty()


def test_it_holds_maxsize_items():
    q = Queue(maxsize=1)
    q.put(0)
    assert q.full()
    for put in (q.put_nowait, lambda item: q.put(item, block=False), lambda item: q.put(item, timeout=0)):
        with pytest.raises(Full, match="queue of size 1 and maxsize 1"):
            put(1)
    with pytest.raises(queue.Full):
        q.put(1, timeout=0.1)
    assert q.get() == 0
    for get in (q.get_nowait, lambda: q.get(block=False), lambda: q.get(timeout=0)):
        with pytest.raises(Empty, match="queue of size 0"):
            get()
    with pytest.raises(queue.Empty):
        q.get(timeout=0.1)
    assert q.empty()


@pytest.mark.parametrize("timeout", [-1, -0.5])
def test_bad_timeouts(timeout):
    q = Queue()
    with pytest.raises(ValueError, match="non-negative"):
        q.put(0, timeout=timeout)
    with pytest.raises(ValueError, match="non-negative"):
        q.get(timeout=timeout)


def test_batches_are_all_or_nothing():
    q = Queue(maxsize=5)
    q.put_nowait_batch(range(4))
    with pytest.raises(Full, match="Cannot add 2 items to queue of size 4 and maxsize 5"):
        q.put_nowait_batch([4, 5])
    with pytest.raises(Empty, match="Cannot get 5 items from queue of size 4"):
        q.get_nowait_batch(5)
    assert q.get_nowait_batch(0) == []
    assert q.get_nowait_batch(4) == [0, 1, 2, 3]
    with pytest.raises(TypeError, match="Iterable"):
        q.put_nowait_batch(1)
    with pytest.raises(TypeError, match="must be an int"):
        q.get_nowait_batch("1")
    with pytest.raises(ValueError, match="nonnegative"):
        q.get_nowait_batch(-1)


def test_between_tasks():
    q = Queue(maxsize=2)
    ref = consume.remote(q, 20)
    for item in range(20):
        q.put(item)
    assert ray.get(ref) == list(range(20))


def test_waiting_tasks_take_no_cpu():
    q = Queue()
    refs = [consume.remote(q, 1) for _ in range(8)]
    time.sleep(0.3)
    q.put_nowait_batch(range(8))
    assert sorted(ray.get(refs)) == [[item] for item in range(8)]


def test_a_ref_in_an_item_stays_one():
    q = Queue()
    q.put(ray.put(3))
    assert ray.get(q.get()) == 3


def test_on_a_loop():
    q = Queue(maxsize=1)

    async def main():
        getting = asyncio.ensure_future(q.get_async())
        await asyncio.sleep(0.1)
        await q.put_async(1)
        assert await getting == 1
        await q.put_async(2)
        with pytest.raises(Full):
            await q.put_async(3, timeout=0.1)
        with pytest.raises(Full):
            await q.put_async(3, block=False)
        assert await q.get_async(timeout=1) == 2
        with pytest.raises(Empty):
            await q.get_async(timeout=0.1)
        with pytest.raises(Empty):
            await q.get_async(block=False)

    asyncio.run(main())


@pytest.mark.parametrize("after", [0, 0.0005, 0.002, 0.1])
def test_a_cancelled_get_takes_nothing(after):
    q = Queue()
    items = list(range(20))

    async def main():
        got = []
        for item in items:
            getting = asyncio.ensure_future(q.get_async())
            await asyncio.sleep(0)
            putting = asyncio.ensure_future(q.put_async(item))
            await asyncio.sleep(after if item < 5 or after < 0.1 else 0.001)
            getting.cancel()
            await putting
            try:
                got.append(await getting)
            except asyncio.CancelledError:
                got.append(await q.get_async(timeout=20))
        return got

    assert asyncio.run(main()) == items
    assert q.empty()


@pytest.mark.parametrize("limit", [0.0005, 0.002, 0.01])
def test_a_get_whose_time_is_over_takes_nothing(limit):
    q = Queue()

    @ray.remote
    def produce(q, count):
        for item in range(count):
            time.sleep(0.001)
            q.put(item)

    done = produce.remote(q, 50)
    got = []
    end = time.monotonic() + 30
    while len(got) < 50 and time.monotonic() < end:
        try:
            got.append(q.get(timeout=limit))
        except Empty:
            pass
    ray.get(done)
    assert sorted(got) == list(range(50))


def test_a_put_whose_time_is_over_has_put_nothing():
    q = Queue(maxsize=1)
    put, got = [], []

    @ray.remote
    def drain(q):
        got = []
        while (item := q.get()) is not None:
            got.append(item)
            time.sleep(0.002)
        return got

    drained = drain.remote(q)
    for item in range(60):
        try:
            q.put(item, timeout=0.002)
            put.append(item)
        except Full:
            pass
    q.put(None)
    got = ray.get(drained)
    assert got == put


def test_an_interrupted_get_takes_nothing():
    q = Queue()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt) as caught:  # whose traceback keeps what the call knew
        q.get()
    timer.join()
    q.put(1)
    assert q.get(timeout=20) == 1
    del caught


def test_a_get_of_a_cancelled_task_takes_nothing():
    q, pids = Queue(), Queue()
    ref = get_one.remote(q, pids)
    pids.get(timeout=30)
    time.sleep(0.2)
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref)
    q.put(1)
    assert q.get(timeout=20) == 1


def test_a_killed_getter_takes_nothing():
    q = Queue()
    killed(get_one, q)
    q.put(1)
    eventually(lambda: q.qsize() == 1)
    assert q.get(timeout=20) == 1


def test_what_was_handed_to_a_killed_getter_goes_to_the_next():
    q = Queue()
    pids = Queue()
    ref = get_one.remote(q, pids)
    pid = pids.get(timeout=30)
    time.sleep(0.2)
    os.kill(pid, signal.SIGSTOP)
    q.put("kept")  # it is called, and does not come for it
    os.kill(pid, signal.SIGKILL)
    assert q.get(timeout=20) == "kept"
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(ref)


def test_a_killed_putter_leaves_nothing():
    q = Queue(maxsize=1)
    q.put(0)
    killed(put_one, q, 1)
    assert q.get() == 0
    with pytest.raises(Empty):
        q.get(timeout=0.3)


def test_a_called_getter_has_its_ticket_until_it_has_the_item():
    """Else the item may be taken back before it comes for it."""
    q = Queue()
    steps = q._get(1, True, None)
    asked, _ = next(steps)
    ticket, _ = steps.send(ray.get(asked))
    q.put(1)
    ray.get(ticket)
    held = weakref.ref(ticket)
    del ticket
    claimed, _ = steps.send(None)
    assert held() is not None
    with pytest.raises(StopIteration) as ended:
        steps.send(ray.get(claimed))
    assert ended.value.value == [1]


def test_a_getter_that_was_taken_for_dead_waits_no_longer_for_that():
    q = Queue()
    steps = q._get(1, True, 0.2)
    asked, _ = next(steps)
    steps.send(ray.get(asked))
    _, limit_s = steps.send(None)
    assert limit_s is None
    _, limit_s = steps.send([])
    assert limit_s is not None


def test_shutdown():
    for force in (False, True):
        q = Queue()
        waiting = consume.remote(q, 1)
        time.sleep(0.2)
        q.shutdown(force)
        for call in (lambda q=q: q.put(1), q.get, q.qsize):
            with pytest.raises(RayActorError):
                call()
        with pytest.raises(RayActorError):
            ray.get(waiting, timeout=20)


def test_the_end_of_its_actor_ends_waits():
    q = Queue()
    waiting = consume.remote(q, 1)
    time.sleep(0.2)
    q.actor.__ray_terminate__.remote()
    with pytest.raises(RayActorError):
        ray.get(waiting, timeout=20)


def test_options_of_its_actor():
    q = Queue(actor_options={"name": "queue-of-options", "max_concurrency": 4})
    q.put(1)
    assert ray.get(ray.get_actor("queue-of-options").qsize.remote()) == 1
    with pytest.raises(ValueError, match="queue-of-options"):
        Queue(actor_options={"name": "queue-of-options"})


def test_the_older_name():
    from ray.experimental.queue import Queue as Older

    assert Older is Queue
