"""Threads that wait poll by themselves: an answer is not handed from one thread to another."""

import threading
from typing import Any

import pytest

import ray
from ray.runtime import interface


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
    assert runtime.polling._turns - taken > 150, "the reader thread polled for a thread that waited"


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
