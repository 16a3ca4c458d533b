"""The two ends of what workers print: a worker waits while too much is on its way, and never for ever."""

import os
import select
import sys
import threading
import time

import pytest

from ray.builtin.unix_transport import UnixTransport
from ray.exceptions import RemoteProtocolError
from ray.messages.node import Logs, Printed
from ray.runtime.driver import printer
from ray.runtime.driver.printer import Printer
from ray.runtime.node import output
from ray.runtime.node.output import NodeOutput
from ray.runtime.process.output_window import WINDOW, weight
from ray.runtime.process.timers import Timers
from ray.testing import eventually

LINE = b"x" * 999


class Driver:
    """Prints nothing until it is told to."""

    def __init__(self, job="1"):
        self.job = job
        self.received = []

    def send(self, message):
        self.received.append(message)

    def lines(self):
        return sum(len(logs.lines) for logs in self.received)

    def dropped(self):
        return sum(logs.dropped for logs in self.received)


class Node:
    """The part of a node manager that reads pipes, and two workers of one job; a third is of another job."""

    def __init__(self, folder):
        #: {job: its driver}; the workers are of the first one, and another one has its own.
        self.by_job = {job: Driver(job) for job in ("1", "2")}
        self.transport = UnixTransport(str(folder))
        self.timers = Timers()
        self.output = NodeOutput(self.transport, self.timers, self.by_job.get)
        self.pipes = [self.output.open(1, "1"), self.output.open(2, "1"), self.output.open(1, "2")]
        for _, write in self.pipes:
            os.set_blocking(write, False)

    def fill(self, pipe, lines):
        """Have a worker write so many lines, as far as they are taken; returns how many were."""
        for count in range(lines):
            data = memoryview(LINE + b"\n")
            while data:
                try:
                    data = data[os.write(self.pipes[pipe][1], data) :]
                except BlockingIOError:
                    if not self.read():
                        return count
        return lines

    def read(self):
        """Whether something was taken."""
        before = self._received()
        self.transport.poll(0)
        return before != self._received()

    def _received(self):
        return [len(driver.received) for driver in self.by_job.values()]

    def close(self):
        for reader, write in self.pipes:
            self.output.close(reader)
            os.close(write)
        self.transport.close()


@pytest.fixture
def node(tmp_path):
    it = Node(tmp_path)
    yield it
    it.close()


def test_pipes_are_not_read_while_too_much_is_on_its_way(node):
    driver = node.by_job["1"]
    taken = node.fill(0, 100_000)
    assert sum(map(weight, driver.received)) < WINDOW + (1 << 20)
    assert driver.lines() <= taken < 2 * WINDOW // len(LINE)
    assert node.fill(1, 100) < 100, "the other worker waits as well"
    held = len(driver.received)
    node.output.printed(driver, Printed(sum(map(weight, driver.received))), ())
    while node.read():
        pass
    assert {logs.stream for logs in driver.received[held:]} == {1, 2}


def test_who_is_about_to_end_does_not_wait(node):
    driver = node.by_job["1"]
    node.fill(0, 100_000)
    node.read()
    assert node.fill(1, 100) < 100
    node.output.take_last(node.pipes[1][0])
    before = driver.lines()
    assert node.fill(1, 1000) == 1000
    while node.read():
        pass
    assert driver.lines() > before + 1000


def test_what_the_dead_have_left_is_dropped_where_there_is_far_too_much(node, monkeypatch):
    monkeypatch.setattr(output, "MOST", WINDOW + (1 << 20))
    driver = node.by_job["1"]
    node.output.take_last(node.pipes[0][0])
    for _ in range(10_000):
        node.output.forward("1", Logs(1, "f", 1, [LINE]))
    assert driver.lines() < 10_000
    node.output.printed(driver, Printed(sum(map(weight, driver.received))), ())
    assert driver.lines() + driver.dropped() == 10_000


def test_a_driver_that_is_gone_holds_nobody_up(node):
    node.fill(0, 100_000)
    assert node.fill(0, 100) < 100
    del node.by_job["1"]
    node.output.driver_lost("1")
    for _ in range(3):
        node.transport.poll(0)
    assert os.write(node.pipes[0][1], LINE) == len(LINE)


def test_a_slow_driver_holds_no_other_job_up(node):
    other = node.by_job["2"]
    node.fill(0, 100_000)
    assert node.fill(2, 100) == 100
    while node.read():
        pass
    assert (node.fill(1, 100) < 100, other.lines()) == (True, 100)
    assert not any(LINE in logs.lines for logs in node.by_job["1"].received if logs.stream == 2)


def test_nobody_can_have_printed_more_than_there_was(node):
    node.fill(0, 100)
    node.read()
    with pytest.raises(RemoteProtocolError):
        node.output.printed(node.by_job["1"], Printed(1 << 30), ())
    with pytest.raises(RemoteProtocolError):
        node.output.printed(Driver("none"), Printed(1), ())


def test_a_pipe_that_is_closed_while_it_waits_stays_closed(node):
    driver = node.by_job["1"]
    node.fill(0, 100_000)
    node.output.close(node.pipes[0][0])
    node.output.printed(driver, Printed(sum(map(weight, driver.received))), ())
    node.transport.poll(0)
    assert node.fill(1, 100) == 100


def test_a_line_that_waits_is_not_taken_for_an_unfinished_one(node):
    driver = node.by_job["1"]
    os.write(node.pipes[0][1], b"one line, ")
    assert not node.read()
    os.write(node.pipes[0][1], b"and its end\n")
    time.sleep(0.25)
    node.timers.run_due()
    assert not driver.received
    while node.read():
        pass
    assert [logs.lines for logs in driver.received] == [[b"one line, and its end"]]


# --- the driver -------------------------------------------------------------------------------------------------------


class Screen:
    """Takes what is printed when it is allowed to."""

    def __init__(self):
        self.text = ""
        self.goes_on = threading.Event()

    def write(self, text):
        assert self.goes_on.wait(30)
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return False


class Later:
    """Timers that go off when the test says so."""

    def __init__(self):
        self.callbacks = []

    def __call__(self, delay_s, callback):
        self.callbacks.append(callback)

    def run(self):
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()


@pytest.fixture
def make(monkeypatch):
    """Not before the test itself begins: pytest puts streams of its own in place then."""

    def make(tell, later):
        screen = Screen()
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setattr(sys, "stderr", screen)
        return Printer(tell, later), screen

    return make


def full(count=100):
    """Batches of one line each that are more than a driver waits for at a stuck terminal."""
    return [Logs(7, "f", 1, [b"%06d" % number + b"x" * (WINDOW // count)]) for number in range(count)]


def test_output_of_other_nodes_names_them(make):
    """Processes of two nodes may have one pid: each has a line of its own."""
    it, screen = make(lambda amount: None, Later())
    screen.goes_on.set()
    for node in ("", "second"):
        it.show(Logs(7, "f", 1, [b"whole"], node=node))
    eventually(lambda: screen.text.count("whole") == 2, 30)
    it.close()
    assert screen.text.splitlines() == ["(f pid=7) whole", "(f pid=7, node=second) whole"]


def test_all_that_was_printed_is_told(make):
    told = []
    it, screen = make(told.append, Later())
    batches = full()
    for batch in batches:
        it.show(batch)
    assert not told
    screen.goes_on.set()
    eventually(lambda: sum(told) > sum(map(weight, batches)) - WINDOW // 8, 30)
    it.close()
    assert [line[10:16] for line in screen.text.splitlines()] == [f"{number:06d}" for number in range(100)]


def test_a_reader_that_takes_nothing_is_not_waited_for(make, monkeypatch):
    told, later = [], Later()
    it, screen = make(told.append, later)
    batches = full()
    for batch in batches:
        it.show(batch)
    later.run()
    assert not told, "it has not been waited for"
    with monkeypatch.context() as patch:
        patch.setattr(printer, "STUCK_S", 0.0)
        eventually(lambda: (later.run(), sum(told) > WINDOW // 2)[1], 30)
    screen.goes_on.set()
    eventually(lambda: "000099" in screen.text, 30)
    it.close()
    lines = screen.text.splitlines()
    (missing,) = [line for line in lines if "are missing here" in line]
    assert len(lines) - 1 + int(missing.split()[1]) == 100
    assert lines.index(missing) == 1, "the newest ones are kept"


def test_a_little_waits_for_as_long_as_it_has_to(make, monkeypatch):
    told, later = [], Later()
    it, screen = make(told.append, later)
    monkeypatch.setattr(printer, "STUCK_S", 0.0)
    for number in range(500):
        it.show(Logs(7, "f", 1, [b"%d" % number]))
    for _ in range(10):
        later.run()
    assert not told
    screen.goes_on.set()
    it.close()
    assert len(screen.text.splitlines()) == 500


def test_the_end_does_not_wait_for_a_reader_that_takes_nothing(make, monkeypatch):
    read, write = os.pipe()
    it, screen = make(lambda amount: None, Later())
    screen.fileno = lambda: write
    for batch in full():
        it.show(batch)
    monkeypatch.setattr(printer, "_END_S", 0.05)
    try:
        it.close()
        assert select.select([read], [], [], 0)[0]
        assert b"The last 99 lines of workers' output were not printed" in os.read(read, 1000)
    finally:
        screen.goes_on.set()
        it._thread.join(30)
        os.close(read)
        os.close(write)
