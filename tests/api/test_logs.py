"""What workers print appears at the driver: all of it, in order, and with the name of the task that printed it."""

import io
import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest
from tests.api.meeting import LIMIT_S
from tests.victims import ROOT

import ray
from ray.exceptions import RayActorError, WorkerCrashedError
from ray.testing import eventually

LINE = re.compile(r"\((?P<name>[^ ]+) pid=(?P<pid>\d+)\) (?P<text>.*)")


class Screen:
    """What has been printed by workers so far. Not pytest's: reading that one loses what a thread prints meanwhile."""

    def __init__(self):
        self.out, self.err = io.StringIO(), io.StringIO()

    def rows(self, stream="out"):
        """``(name, pid, text)`` of each line of workers on ``stdout`` or ``stderr``."""
        found = [LINE.fullmatch(line) for line in getattr(self, stream).getvalue().splitlines()]
        return [(row["name"], int(row["pid"]), row["text"]) for row in found if row]

    def texts(self, stream="out"):
        return [text for _, _, text in self.rows(stream)]

    def until(self, count, stream="out"):
        """The rows, once there are ``count`` of them."""
        eventually(lambda: len(self.rows(stream)) >= count, LIMIT_S, f"{count} lines have not come")
        return self.rows(stream)


@pytest.fixture
def screen():
    return Screen()


@pytest.fixture
def start(start, screen, monkeypatch):
    def begin(**options):
        # Not before the test itself begins: pytest puts streams of its own in place then.
        monkeypatch.setattr(sys, "stdout", screen.out)
        monkeypatch.setattr(sys, "stderr", screen.err)
        return start(**options)

    return begin


@ray.remote
def say(*lines, to="stdout"):
    for line in lines:
        print(line, file=getattr(sys, to))
    return os.getpid()


@ray.remote
def write(fd, data):
    os.write(fd, data)
    return os.getpid()


@ray.remote
def count(name, lines):
    for number in range(lines):
        print(name, number)
    return os.getpid()


@ray.remote
class Speaker:
    def say(self, line):
        print(line)
        return os.getpid()

    def die(self, line):
        print(line)
        os.kill(os.getpid(), signal.SIGKILL)


def test_lines_appear_under_the_name_of_their_task(start, screen):
    start(num_cpus=1)
    pid = ray.get(say.remote("one", "two"), timeout=LIMIT_S)
    assert screen.until(2) == [("say", pid, "one"), ("say", pid, "two")]
    pid = ray.get(say.options(name="loud").remote("three"), timeout=LIMIT_S)
    assert screen.until(3)[2] == ("loud", pid, "three")
    assert not screen.rows("err")


def test_stderr_appears_on_stderr(start, screen):
    start(num_cpus=1)
    pid = ray.get(say.remote("wrong", to="stderr"), timeout=LIMIT_S)
    assert screen.until(1, "err") == [("say", pid, "wrong")]
    assert not screen.rows()


def test_actors_print_under_the_name_of_their_class(start, screen):
    start(num_cpus=1)
    speaker = Speaker.remote()
    pid = ray.get(speaker.say.remote("hello"), timeout=LIMIT_S)
    assert screen.until(1) == [("Speaker", pid, "hello")]


def test_empty_lines_and_spaces_are_kept(start, screen):
    start(num_cpus=1)
    ray.get(say.remote("", "  a  ", "", "b"), timeout=LIMIT_S)
    assert [text for _, _, text in screen.until(4)] == ["", "  a  ", "", "b"]


def test_a_line_without_an_end_is_delivered(start, screen):
    start(num_cpus=1)

    @ray.remote
    def ask():
        print("name? ", end="")

    ray.get(ask.remote(), timeout=LIMIT_S)
    ray.get(say.remote("next"), timeout=LIMIT_S)
    assert [row[::2] for row in screen.until(2)] == [("ask", "name? "), ("say", "next")]


def test_a_last_line_without_an_end_is_delivered(start, screen):
    start(num_cpus=1)

    @ray.remote
    def ask():
        print("name? ", end="")
        print("what? ", end="", file=sys.stderr)

    ray.get(ask.remote(), timeout=LIMIT_S)
    ray.shutdown()
    assert [row[::2] for row in screen.until(1)] == [("ask", "name? ")]
    assert [row[::2] for row in screen.until(1, "err")] == [("ask", "what? ")]


def test_ten_thousand_lines_of_two_workers_come_in_order(start, screen):
    start(num_cpus=2)
    refs = [count.remote(name, 5000) for name in "ab"]
    pids = ray.get(refs, timeout=LIMIT_S)
    ray.shutdown()  # nothing is lost that was printed before
    rows = screen.rows()
    assert len(rows) == 10_000
    for name in "ab":
        assert [text for _, _, text in rows if text[0] == name] == [f"{name} {number}" for number in range(5000)]
    assert {pid for _, pid, _ in rows} == set(pids)


def test_everything_printed_before_shutdown_appears(start, screen):
    for round in range(3):
        start(num_cpus=1)
        ray.get(say.remote(f"round {round}"), timeout=LIMIT_S)
        ray.shutdown()
        assert screen.texts()[round:] == [f"round {round}"]


def test_long_lines_are_cut_and_nothing_is_lost(start, screen):
    start(num_cpus=1)
    ray.get(say.remote("x" * 1_000_000, "end"), timeout=LIMIT_S)
    eventually(lambda: "end" in screen.texts(), LIMIT_S, "the last line has not come")
    *pieces, end = screen.texts()
    assert "".join(pieces) == "x" * 1_000_000
    assert end == "end"


def test_bytes_that_are_no_text_are_shown_escaped(start, screen):
    start(num_cpus=1)
    pid = ray.get(write.remote(1, b"caf\xe9 \xff\xfe \xe2\x82\xac\n"), timeout=LIMIT_S)
    ((_, seen_pid, text),) = screen.until(1)
    assert (seen_pid, text) == (pid, r"caf\xe9 \xff\xfe €")


def test_output_past_python_appears(start, screen):
    start(num_cpus=1)

    @ray.remote
    def shout():
        os.write(1, b"from C\n")
        os.write(2, b"and its errors\n")
        subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
        os.system("echo from a shell")

    ray.get(shout.remote(), timeout=LIMIT_S)
    assert [text for _, _, text in screen.until(3)] == ["from C", "from a child", "from a shell"]
    assert [text for _, _, text in screen.until(1, "err")] == ["and its errors"]


@pytest.mark.parametrize(
    "how", [lambda: os._exit(3), lambda: os.kill(os.getpid(), signal.SIGKILL), os.abort], ids=["exit", "kill", "abort"]
)
def test_last_words_are_delivered(start, screen, how):
    start(num_cpus=1)

    @ray.remote(max_retries=0)
    def end():
        print("last words")
        print("last errors", file=sys.stderr)
        os.write(1, b"no end")
        how()

    with pytest.raises(WorkerCrashedError, match="last errors"):
        ray.get(end.remote(), timeout=LIMIT_S)
    assert [text for _, _, text in screen.until(2)] == ["last words", "no end"]
    assert "last errors" in screen.texts("err")


def test_last_words_of_an_actor_are_delivered(start, screen):
    start(num_cpus=1)
    speaker = Speaker.remote()
    with pytest.raises(RayActorError):
        ray.get(speaker.die.remote("farewell"), timeout=LIMIT_S)
    ((name, _, text),) = screen.until(1)
    assert (name, text) == ("Speaker", "farewell")


def test_log_to_driver_false_shows_nothing(start, screen):
    start(num_cpus=1, log_to_driver=False)
    ray.get([say.remote("hidden"), say.remote("hidden", to="stderr")], timeout=LIMIT_S)
    ray.get(Speaker.remote().say.remote("hidden"), timeout=LIMIT_S)
    ray.shutdown()
    assert (screen.out.getvalue(), screen.err.getvalue()) == ("", "")


STUCK = """
import os, sys, time
import ray

ray.init(num_cpus=2)

@ray.remote
def flood(stream):
    for _ in range(4000):
        print("x" * 100, file=getattr(sys, stream))
    return 1

@ray.remote
def add(x):
    return x + 1

assert ray.get([flood.remote("stdout"), flood.remote("stderr")]) == [1, 1]
slowest = 0.0
for number in range(200):
    began = time.monotonic()
    assert ray.get(add.remote(number)) == number + 1
    slowest = max(slowest, time.monotonic() - began)
os.write(int(sys.argv[1]), b"%f\\n" % slowest)
ray.shutdown()
os.write(int(sys.argv[1]), b"down\\n")
"""


def test_a_driver_with_stuck_output_goes_on():
    stuck_read, stuck = os.pipe()  # nobody reads
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STUCK), str(write)],
        stdout=stuck, stderr=stuck, cwd=ROOT, pass_fds=[write],
    )  # fmt: skip
    try:
        os.close(write)
        with os.fdopen(read) as told:
            slowest, down = told.readline(), told.readline()
        assert float(slowest) < 1.0
        assert down == "down\n"
        assert process.wait(LIMIT_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(stuck)
        os.close(stuck_read)


def test_the_output_of_a_program_that_ends_at_once_is_complete():
    code = """
    import ray
    ray.init(num_cpus=1)

    @ray.remote
    def flood():
        for number in range(3000):
            print(number, "x" * 90)

    ray.get(flood.remote())
    ray.shutdown()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        numbers = [int(LINE.fullmatch(line.rstrip("\n"))["text"].split()[0]) for line in process.stdout]
        assert process.wait(LIMIT_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert numbers == list(range(3000))


class Broken(io.StringIO):
    """A stream of the program's that fails in its own way."""

    def __init__(self, method):
        super().__init__()
        self.asked = False
        self.method = method

    def _fail(self, method):
        if method == self.method:
            self.asked = True
            raise RuntimeError("broken")

    def write(self, text):
        self._fail("write")
        return super().write(text)

    def flush(self):
        self._fail("flush")


@pytest.mark.parametrize("method", ["write", "flush"])
def test_a_stream_that_fails_costs_what_was_for_it_only(start, screen, monkeypatch, method):
    start(num_cpus=1)
    broken = Broken(method)
    monkeypatch.setattr(sys, "stdout", broken)
    ray.get(say.remote("for nobody"), timeout=LIMIT_S)
    eventually(lambda: broken.asked, LIMIT_S)
    monkeypatch.setattr(sys, "stdout", screen.out)
    ray.get(say.remote("for somebody"), timeout=LIMIT_S)
    eventually(lambda: "for somebody" in screen.texts(), LIMIT_S)
