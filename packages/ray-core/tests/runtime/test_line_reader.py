"""Bytes of a worker's pipe become lines, and the newest state of a line without an end."""

import os

import pytest

from ray.runtime.node.line_reader import LineReader

MARK = b"\x1e\x1eray task-%d\x1f"


class Worker:
    """Writes to a pipe; what the reader makes of it is in ``logs``."""

    def __init__(self):
        read, self.write = os.pipe()
        os.set_blocking(read, False)
        self.logs, self.due = [], []
        self.reader = LineReader(read, 1, self.logs.append, lambda delay_s, callback: self.due.append(callback))

    def print(self, data):
        os.write(self.write, data)
        assert self.reader.read()

    def tell(self):
        """The time has come for the states of unfinished lines."""
        due, self.due = self.due, []
        for callback in due:
            callback()


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    os.close(worker.write)
    os.close(worker.reader.fd)


@pytest.mark.parametrize("start", [b"\x1e", b"\x1e\x1e", b"\x1erecord ", b"\x1e\x1era", b"a\x1eb\x1e\x1eray"])
def test_separators_of_the_user_do_not_hide_a_progress_bar(worker, start):
    for percent in range(3):
        worker.print(start + b"%d %%\r" % percent)
    worker.tell()
    assert [logs.rest for logs in worker.logs] == [start + b"2 %"]


def test_separators_of_the_user_do_not_keep_what_was_replaced(worker):
    for number in range(2000):
        worker.print(b"\x1e" + b"%d" % number * 200 + b"\r")
    assert len(worker.reader._rest) < 4096


@pytest.mark.parametrize("at", range(1, len(MARK % 1)))
def test_a_mark_in_parts_is_none_of_a_line(worker, at):
    mark = MARK % 1
    worker.print(b"10 %\r20 %\r" + mark[:at])
    worker.tell()
    worker.print(mark[at:] + b"other\n")
    assert [(logs.name, logs.lines, logs.rest) for logs in worker.logs] == [
        ("", [], b"20 %"),
        ("", [b"20 %"], b""),
        ("task-1", [b"other"], b""),
    ]
