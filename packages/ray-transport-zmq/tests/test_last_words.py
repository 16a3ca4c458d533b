"""What ZeroMQ says before it aborts a process is told as a reason."""

import pytest

from ray_transport_zmq.last_words import abort_reason

CLOSED = "closed descriptors that are not its own"


@pytest.mark.parametrize(
    "line",
    [
        "Bad file descriptor (src/epoll.cpp:118)",
        "Assertion failed: pfd.revents & POLLIN (src/signaler.cpp:238)",
        "Resource temporarily unavailable (/build/zeromq-4.3/src/signaler.cpp:321)",
    ],
)
def test_descriptors(line):
    said = abort_reason(["before", line, "Fatal Python error: Aborted", "", "Stack (most recent call first):"])
    assert CLOSED in said
    assert line.partition(" (")[0] in said


@pytest.mark.parametrize("line", ["FATAL ERROR: OUT OF MEMORY (src/msg.cpp:71)", "Too many open files (src/ip.cpp:90)"])
def test_a_lack(line):
    said = abort_reason([line, "Fatal Python error: Aborted"])
    assert line.partition(" (")[0] in said
    assert CLOSED not in said


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Fatal Python error: Aborted", "", "Stack (most recent call first):", '  File "a.py", line 1 in f'],
        ["python: src/own.cpp:12: main: Assertion `x' failed."],
        ["free(): invalid pointer"],
    ],
)
def test_words_of_others(lines):
    assert abort_reason(lines) == ""
