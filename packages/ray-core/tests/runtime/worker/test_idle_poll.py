"""What the main thread does between calls."""

import pytest
from tests.workers import Calls, Worker

from ray.runtime.worker.idle_poll import IdlePoll


class Polling:
    shareable = True

    def __init__(self):
        self.idle = []

    def serve_while(self, idle):
        self.idle.append(idle())


class Process:
    def __init__(self):
        self.worker = worker = Worker()
        self.polling, self.flushes = Polling(), 0
        self.poll = IdlePoll(worker.desk, worker.life, worker.actor, self, self.polling, worker.executor)

    def flush_all(self):
        self.flushes += 1


@pytest.fixture
def process():
    return Process()


def test_it_polls_and_queues_again(process):
    process.poll.run()
    assert (process.flushes, process.polling.idle) == (1, [True])
    assert process.worker.executor.submitted == [process.poll]


def test_it_ends_where_a_call_has_come(process):
    process.worker.executor.busy = True
    process.poll.run()
    assert process.polling.idle == [False]
    assert process.worker.executor.submitted == [process.poll]


def test_it_is_the_last_where_the_process_ends(process):
    process.worker.life.left = True
    process.poll.run()
    assert process.polling.idle == [False]
    assert process.worker.executor.submitted == []


def test_it_is_the_last_where_another_executor_takes_over(process):
    process.worker.desk.run_by(Calls())
    process.poll.run()
    assert process.worker.executor.submitted == []


def test_it_does_not_poll_where_the_reader_thread_has_to(process):
    process.polling.shareable = False
    process.poll.run()
    assert (process.flushes, process.polling.idle, process.worker.executor.submitted) == (1, [], [])
