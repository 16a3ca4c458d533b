"""Threads that wait poll by themselves: an answer is not handed from one thread to another."""

import asyncio
import threading
from typing import Any

import pytest

import ray
from ray.runtime import interface
from ray.runtime.owner import inbox as reader_module


@pytest.fixture
def runtime():
    with ray.init(num_cpus=2, log_to_driver=False):
        yield interface.current()


@ray.remote(num_cpus=0)
class Echo:
    def call(self, value: Any) -> Any:
        return value


@pytest.mark.timeout(60)
def test_the_waiting_thread_takes_its_own_answers(runtime):
    echo = Echo.remote()
    for number in range(50):
        ray.get(echo.call.remote(number))
    taken = runtime.polling._turns
    for number in range(200):
        assert ray.get(echo.call.remote(number)) == number
    assert runtime.polling._turns - taken > 100, "the reader thread polled for a thread that waited"


@pytest.mark.timeout(60)
def test_threads_that_wait_at_the_same_time_all_get_theirs(runtime):
    echo = Echo.remote()
    wrong = []

    def work(base):
        for number in range(base, base + 300):
            if ray.get(echo.call.remote(number), timeout=30) != number:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(1000 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
        assert not thread.is_alive()
    assert not wrong


@pytest.mark.timeout(60)
def test_questions_to_the_node_manager_are_answered_between_calls(runtime):
    echo = Echo.remote()
    for number in range(100):
        assert ray.get(echo.call.remote(number)) == number
        assert ray.cluster_resources()["CPU"] == 2


def test_a_batch_is_taken_in_slices_while_event_loops_listen(runtime, monkeypatch):
    monkeypatch.setattr(reader_module, "SLICE_S", 0.0)
    reader, taken = runtime.inbox, []
    events = [(None, number) for number in range(3)]

    def take(event):
        reader.pending.popleft()
        taken.append(event[1])

    with runtime.lock, monkeypatch.context() as patch:
        patch.setattr(reader, "_take", take)
        reader.pending.extend(events)
        assert reader.take()
        assert taken == [0, 1, 2]
        patch.setattr(runtime.table, "listeners", 1)
        reader.pending.extend(events)
        assert not reader.take()
        assert list(reader.pending) == events[1:]
        assert not reader.take()
        assert reader.take()
        assert taken == [0, 1, 2, 0, 1, 2]


@pytest.mark.timeout(60)
def test_every_slice_is_taken(runtime, monkeypatch):
    """Also by a thread that polls for itself meanwhile."""
    monkeypatch.setattr(reader_module, "SLICE_S", 0.0)
    echo = Echo.remote()

    async def main():
        waiting = asyncio.gather(*[echo.call.remote(number) for number in range(2000)])
        synchronous = asyncio.to_thread(lambda: [ray.get(echo.call.remote(number)) for number in range(100)])
        return await waiting, await synchronous

    assert asyncio.run(asyncio.wait_for(main(), 50)) == ([*range(2000)], [*range(100)])
