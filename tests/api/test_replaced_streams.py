"""What the program puts in the place of ``sys.stdout`` and ``sys.stderr`` gets what workers print, and what is told."""

from __future__ import annotations

import codecs
import collections
import contextlib
import io
import os
import subprocess
import sys
import textwrap
import threading

import pytest
from tests.sessions import shared, unchecked
from tests.terminal import on_terminal
from tests.victims import ROOT

import ray
from ray.testing import eventually

LIMIT_S = 40.0


nothing_left = unchecked()
session = shared(num_cpus=2)


@ray.remote
def say(out, err=""):
    if out:
        print(out)
    if err:
        print(err, file=sys.stderr)


@ray.remote
def fail(text):
    raise ValueError(text)


# --- what takes the place of a stream ---------------------------------------------------------------------------------


class Kept:
    """Keeps what is written to it; subclasses are the ways in which programs make such streams."""

    def __init__(self, original):
        self.original, self.pieces = original, []

    def write(self, text):
        self.pieces.append(text)
        return len(text)

    def text(self):
        return "".join(self.pieces)


class Forwards(Kept):
    """Has all else of the original: its descriptor, its buffer, and whether it is a terminal."""

    def __getattr__(self, name):
        return getattr(self.original, name)


class OfTextIO(Kept, io.TextIOBase):
    """No encoding, no errors and no buffer."""


class OfTextIOForwards(Forwards, io.TextIOBase):
    """As rich makes them: what the base class has is the base class's, such as no encoding."""


class OfStringIO(Kept, io.StringIO):
    """Has an encoding and errors, which are None."""

    def __init__(self, original):
        io.StringIO.__init__(self)
        Kept.__init__(self, original)


class OfFile(Kept, io.TextIOWrapper):
    """A text file with a ``write`` of its own."""

    def __init__(self, original):
        io.TextIOWrapper.__init__(self, io.BytesIO(), encoding="ascii")
        Kept.__init__(self, original)


class OfFileWithoutBuffer(Kept, io.TextIOWrapper):
    """The same, on what Python calls unbuffered."""

    def __init__(self, original):
        class Raw(io.RawIOBase):
            def writable(self):
                return True

        io.TextIOWrapper.__init__(self, Raw(), encoding="ascii", write_through=True)
        Kept.__init__(self, original)


class WithoutFlush(Kept):
    """Has a ``write`` and nothing else."""


class FlushRaises(Kept):
    def flush(self):
        raise RuntimeError("no flush")


class ReturnsNone(Kept):
    def write(self, text):
        super().write(text)


class OddAttributes(Kept):
    encoding = errors = newlines = buffer = 7

    def flush(self):
        pass

    def fileno(self):
        return "none"

    def isatty(self):
        raise RuntimeError("no isatty")


class Slots:
    """Without attributes of its own."""

    __slots__ = ("pieces",)

    def __init__(self, original):
        self.pieces = []

    def write(self, text):
        self.pieces.append(text)

    def text(self):
        return "".join(self.pieces)


class Strict(Kept):
    """Refuses what it cannot encode, and says little about it."""

    encoding = "cp1252"

    def write(self, text):
        text.encode(self.encoding)
        return super().write(text)


class Lines(Kept):
    """Takes lines for records, as those do that lead to a logger."""

    def write(self, text):
        self.pieces.extend(f"{line}\n" for line in text.splitlines())


KINDS = [
    Kept, Forwards, OfTextIO, OfTextIOForwards, OfStringIO, OfFile, OfFileWithoutBuffer, WithoutFlush, FlushRaises,
    ReturnsNone, OddAttributes, Slots, Lines,
]  # fmt: skip


@contextlib.contextmanager
def replaced(name, stream):
    """``sys.stdout`` or ``sys.stderr`` is another one for as long as the block lasts."""
    original = getattr(sys, name)
    setattr(sys, name, stream)
    try:
        yield stream
    finally:
        setattr(sys, name, original)


def comes(stream, text, count=1):
    eventually(lambda: stream.text().count(text) >= count, LIMIT_S, f"{text!r} is not in {stream.text()!r}")
    assert stream.text().count(text) == count


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_lines_and_messages_get_there(kind, capfd):
    out, err = kind(sys.stdout), kind(sys.stderr)
    with replaced("stdout", out), replaced("stderr", err):
        refs = [say.remote("one", "two"), fail.remote("three")]
        comes(out, ") one\n")
        comes(err, ") two\n")
        comes(err, "[ray] A task failed: ValueError: three")
    del refs
    captured = capfd.readouterr()
    assert not captured.out + captured.err, "none of it goes past the program's own"


@pytest.mark.parametrize("kind", [Forwards, FlushRaises, WithoutFlush, Slots], ids=lambda kind: kind.__name__)
def test_much_of_it(kind):
    text = "\n".join(f"{number} " + "x" * 100 for number in range(1000))
    with replaced("stdout", kind(sys.stdout)) as out:
        ray.get(say.remote(text))
        eventually(lambda: "\n(say pid=" in out.text() and ") 999 " in out.text(), LIMIT_S, "the end has not come")
        assert out.text().count("\n") == 1000


def test_lines_are_not_broken(capfd):
    with replaced("stdout", Lines(sys.stdout)) as out:
        ray.get(say.remote("\n".join(f"{number} " + "é" * 100 for number in range(300))))
        eventually(lambda: ") 299 " in out.text(), LIMIT_S, "the end has not come")
        assert len(out.pieces) == 300
        assert all(piece.startswith("(say pid=") for piece in out.pieces)


def test_what_it_cannot_encode_is_escaped():
    with replaced("stdout", Strict(sys.stdout)) as out:
        ray.get(say.remote("euro € and \x80"))
        eventually(lambda: "euro" in out.text(), LIMIT_S, "the line has not come")
        assert ") euro € and \\x80\n" in out.text()


def test_a_write_of_its_own_on_the_file_itself(monkeypatch, capfd):
    pieces, before = [], sys.stdout.write
    monkeypatch.setattr(sys.stdout, "write", lambda text: (pieces.append(text), before(text))[1])
    ray.get(say.remote("seen"))
    eventually(lambda: ") seen\n" in "".join(pieces), LIMIT_S, "the line has not come")
    assert capfd.readouterr().out.count(") seen\n") == 1, "and passed on"


def test_standard_ways(tmp_path):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        ray.get(say.remote("into a text"))
        eventually(lambda: ") into a text\n" in text.getvalue(), LIMIT_S, "the line has not come")
    with open(tmp_path / "binary", "wb") as file, replaced("stdout", codecs.getwriter("utf-8")(file)):
        ray.get(say.remote("encoded é"))
        eventually(
            lambda: ") encoded é\n".encode() in (tmp_path / "binary").read_bytes(), LIMIT_S, "the line has not come"
        )
    with open(tmp_path / "plain", "w", encoding="ascii") as file, contextlib.redirect_stderr(file):
        ray.get(say.remote("", "escaped é"))
        eventually(lambda: ") escaped \\xe9\n" in (tmp_path / "plain").read_text(), LIMIT_S, "the line has not come")


# --- what fails -------------------------------------------------------------------------------------------------------


class Fails(Kept):
    """``write`` raises what it is told to."""

    error: BaseException = RuntimeError("no write")

    def write(self, text):
        raise self.error


class FailsToExit(Fails):
    error = SystemExit(3)


class FailsOnce(Kept):
    def write(self, text):
        if not self.pieces:
            self.pieces.append("")
            raise OSError("not now")
        return super().write(text)


def closed(original):
    stream = io.StringIO()
    stream.close()
    return stream


def no_text(original):
    return io.BytesIO()


def nothing_at_all(original):
    return object()


FAILING = [Fails, FailsToExit, closed, no_text, nothing_at_all]


@pytest.mark.slow
def test_what_a_stream_does_not_take_goes_to_the_real_stderr(tmp_path):
    """In a program of its own: pytest has put its own files in the place of both."""
    code = """
        import sys, ray
        from pathlib import Path
        from tests.api import test_replaced_streams as streams

        ray.init(num_cpus=1)
        for name in ("stdout", "stderr"):
            for kind in streams.FAILING:
                text = f"{name} {kind.__name__}"
                with streams.replaced(name, kind(getattr(sys, name))):
                    ref = streams.fail.remote(f"told {text}")
                    ray.get(streams.say.remote(f"out {text}", f"err {text}"))
                    wanted = ["told", "out", "err"] if name == "stdout" else ["told", "err"]
                    for word in wanted:
                        streams.until(lambda: f"{word} {text}" in Path(sys.argv[1]).read_text(), 40, f"{word} {text}")
    """
    with open(tmp_path / "err", "w") as err:
        command = [sys.executable, "-c", textwrap.dedent(code), err.name]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=err, text=True, cwd=ROOT, timeout=55, check=False)
    stderr = (tmp_path / "err").read_text()
    assert done.returncode == 0, stderr
    for kind in FAILING:
        for name in ("stdout", "stderr"):
            text = f"{name} {kind.__name__}\n"
            assert stderr.count(f") err {text}") == 1
            assert stderr.count(f"[ray] A task failed: ValueError: told {text[:-1]} in fail") == 1
            assert (stderr if name == "stdout" else done.stdout).count(f") out {text}") == 1


def test_a_stream_that_fails_once_gets_the_next(capfd):
    with replaced("stdout", FailsOnce(sys.stdout)) as out:
        ray.get(say.remote("one"))
        eventually(lambda: out.pieces, LIMIT_S, "the first has not come")
        ray.get(say.remote("two"))
        comes(out, ") two\n")


def test_no_stream_is_no_error(capfd):
    """As with ``print``."""
    with replaced("stdout", None):
        ray.get(say.remote("unseen", "seen"))
        out = Kept(None)
        sys.stdout = out
        ray.get(say.remote("later"))
        comes(out, ") later\n")


# --- a terminal -------------------------------------------------------------------------------------------------------

#: A stream as rich makes them: a lock of its own, which it holds too as it draws on the file behind.
BEHIND_A_LOCK = """
import io, sys, threading, time, ray

lock = threading.RLock()

class Proxy(io.TextIOBase):
    def __init__(self, file):
        self.file, self.rest = file, ""
    def __getattr__(self, name):
        return getattr(self.file, name)
    def isatty(self):
        return self.file.isatty()
    def fileno(self):
        return self.file.fileno()
    def write(self, text):
        with lock:
            *lines, self.rest = (self.rest + text).split("\\n")
            for line in lines:
                self.file.write(f"<{line}>\\n")
            self.file.flush()
        return len(text)
    def flush(self):
        pass

def draw():
    while not done.is_set():
        with lock:
            sys.__stdout__.write("drawn\\n")
            sys.__stdout__.flush()
        time.sleep(0.0005)

@ray.remote
def many(count):
    for number in range(count):
        print("line", number)
        print("error", number, file=sys.stderr)

@ray.remote
def bar():
    for step in range(5):
        print(f"\\rstep {step}", end="", file=sys.stderr, flush=True)
        time.sleep(0.05)
    print("\\rready", file=sys.stderr, flush=True)

done = threading.Event()
ray.init(num_cpus=2)
sys.stdout, sys.stderr = Proxy(sys.stdout), Proxy(sys.stderr)
thread = threading.Thread(target=draw)
thread.start()
refs = [bar.remote(), many.remote(300)]
for number in range(100):
    print("driver", number)
ray.get(refs)
ray.shutdown()
done.set()
thread.join()
sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
print("end")
"""


def test_a_stream_in_front_of_a_terminal_gets_whole_lines_and_waits_for_nobody():
    with on_terminal(BEHIND_A_LOCK) as program:
        rows = program.finish()
    told = collections.Counter(row for row in rows if row.startswith("<"))
    assert {f"<driver {number}>" for number in range(100)} <= set(told)
    said = [row for row in told if " pid=" in row]
    for number in range(300):
        assert sum(row.endswith(f") line {number}>") for row in said) == 1
        assert sum(row.endswith(f") error {number}>") for row in said) == 1
    assert sum(row.endswith(") ready>") for row in said) == 1
    assert rows[-2:] == ["end", ""]
    assert "\x1b" not in program.raw


def test_bars_are_drawn_below_what_goes_through_another_stream():
    """One stream is the program's own, and the bar is drawn on the other."""
    code = """
        import sys, time, ray
        from pathlib import Path

        class Tee:
            def __init__(self, file):
                self.file = file
            def __getattr__(self, name):
                return getattr(self.file, name)
            def write(self, text):
                assert "\\x1b" not in text
                return self.file.write(text)

        @ray.remote
        def bar():
            print("\\rstep", end="", file=sys.stderr, flush=True)
            time.sleep(1)
            print("\\rready", file=sys.stderr, flush=True)

        sys.stdout = Tee(sys.stdout)
        ray.init(num_cpus=1)
        ref = bar.remote()
        for number in range(50):
            print("driver", number)
            time.sleep(0.02)
        ray.get(ref)
        ray.shutdown()
    """
    with on_terminal(code) as program:
        rows = program.finish()
    assert [row for row in rows if "driver" in row] == [f"driver {number}" for number in range(50)]
    assert [row.partition(") ")[2] for row in rows if "pid=" in row] == ["ready"]
    assert "step" in program.raw


def test_a_write_that_waits_for_another_thread_of_the_program(capfd):
    """A thread that prints meanwhile, on the file itself, is not held up."""
    gate, held = threading.Event(), threading.Event()

    class Waits(Kept):
        def write(self, text):
            held.set()
            assert gate.wait(LIMIT_S)
            return super().write(text)

    with replaced("stdout", Waits(sys.stdout)) as out:
        ray.get(say.remote("one"))
        assert held.wait(LIMIT_S)
        os.write(1, b"")
        print("meanwhile", file=sys.stderr)
        gate.set()
        comes(out, ") one\n")
