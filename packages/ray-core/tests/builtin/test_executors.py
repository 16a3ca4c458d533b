"""The built-in executors, beyond the contract."""

import threading

import pytest

from ray.builtin.executors import SerialExecutor, ThreadsExecutor
from ray.testing.contracts._checks_executor import Probe, Record, running
from ray.testing.contracts._expect import eventually


def test_threads_are_started_as_needed_and_end():
    before = set(threading.enumerate())
    executor, record = ThreadsExecutor(100, {"io": 50}), Record()
    with running(executor) as thread:
        assert set(threading.enumerate()) - before == {thread}
        for number in range(20):
            executor.submit(Probe(record))
            eventually(lambda n=number: len(record.ended) == n + 1, "the call runs")
            eventually(lambda: executor._default._waiting == 1, "its thread waits for the next")
        [started] = set(threading.enumerate()) - before - {thread}
        assert started.daemon
        assert started.name == "ray-call-0"
    assert set(threading.enumerate()) == before


def test_calls_start_in_the_order_of_submit():
    executor, record, gate = ThreadsExecutor(2), Record(), threading.Event()
    with running(executor):
        executor.submit(Probe(record, "a", gate=gate))
        executor.submit(Probe(record, "b", gate=gate))
        eventually(lambda: record.running == 2, "both start")
        for name in "cdefgh":
            executor.submit(Probe(record, name))
        gate.set()
        eventually(lambda: len(record.ended) == 8, "all run")
    assert set(record.started[:2]) == {"a", "b"}
    assert record.started.index("c") < record.started.index("h")


def test_calls_of_unknown_groups_belong_to_the_default():
    executor, record = ThreadsExecutor(1, {"io": 1}), Record()
    with running(executor):
        executor.submit(Probe(record, group="misspelt"))
        eventually(lambda: record.ended, "the call runs")


def test_the_main_thread_only_waits():
    executor, record = ThreadsExecutor(2), Record()
    with running(executor) as thread:
        executor.submit(Probe(record))
        eventually(lambda: record.ended, "the call runs")
        assert thread.ident not in record.threads


@pytest.mark.parametrize(("limits", "message"), [((0,), "an actor"), ((1, {"io": 0}), "group 'io'")])
def test_limits_are_checked(limits, message):
    with pytest.raises(ValueError, match=message):
        ThreadsExecutor(*limits)


def test_names_and_concurrency():
    assert (SerialExecutor.name, SerialExecutor.concurrent) == ("serial", False)
    assert (ThreadsExecutor.name, ThreadsExecutor.concurrent) == ("threads", True)
