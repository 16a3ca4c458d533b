"""Lines of workers that have no end yet: they appear soon, and on a terminal their states replace each other."""

import os
import re
import subprocess
import sys
import textwrap

import pytest
from tests.api.test_logs import screen, start
from tests.terminal import on_terminal
from tests.victims import ROOT

import ray
from ray.testing import eventually

__all__ = ["screen", "start"]
LIMIT_S = 40.0

#: A bar goes on when a file appears, so that each of its states stays for as long as a test needs.
BARS = """
import os, sys, time
from pathlib import Path

import ray

folder = Path(sys.argv[1])
ray.init(num_cpus=3)

def wait_for(name):
    end = time.monotonic() + 50
    while not (folder / name).exists():
        assert time.monotonic() < end, name
        time.sleep(0.01)

@ray.remote
def bar(name, steps, stream="stderr", last="\\n"):
    for step in range(steps):
        print(f"\\r{name} {step}/{steps} |{'█' * step}", end="", file=getattr(sys, stream), flush=True)
        wait_for(f"{name}{step}")
    print(f"\\r{name} done", end=last, file=getattr(sys, stream), flush=True)
    return name

@ray.remote
def say(*lines):
    for line in lines:
        print(line)

@ray.remote
def quick(count):
    for step in range(count):
        print(f"\\rquick {step}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)

"""


def shown(rows):
    """Without prefixes, and without what the session says of itself."""
    return [re.sub(r"^\((\w+) pid=\d+\) ", "", row) for row in rows if row and not row.startswith("[ray]")]


@ray.remote
def ask(path, fd):
    if fd:
        os.write(fd, b"name? ")
    else:
        print("name? ", end="")
    eventually(path.exists, LIMIT_S, "nobody has answered")
    if fd:
        os.write(fd, b"bob\n")
    else:
        print("bob")


@pytest.mark.parametrize("fd", [0, 1], ids=["print", "write"])
def test_a_question_is_seen_before_its_line_ends(start, screen, tmp_path, fd):
    start(num_cpus=1)
    asking = ask.remote(tmp_path / "answered", fd)
    screen.until(1)
    assert screen.texts() == ["name? "]
    (tmp_path / "answered").touch()
    ray.get(asking)
    screen.until(2)
    assert screen.texts() == ["name? ", "name? bob"]


def test_a_line_that_was_seen_is_not_repeated_when_it_ends(start, screen, tmp_path):
    start(num_cpus=1)

    @ray.remote
    def ask():
        print("well", end="")
        eventually((tmp_path / "go").exists, LIMIT_S, "nobody goes on")
        print()
        print("next")

    asking = ask.remote()
    screen.until(1)
    (tmp_path / "go").touch()
    ray.get(asking)
    assert [text for _, _, text in screen.until(2)] == ["well", "next"]


def test_states_that_cannot_be_replaced_do_not_flood(start, screen):
    start(num_cpus=1)

    @ray.remote
    def quick(count):
        for step in range(count):
            print(f"\rstep {step}", end="", flush=True)
        print()

    ray.get(quick.remote(20_000))
    eventually(lambda: "step 19999" in screen.texts(), LIMIT_S, "the last state has not come")
    assert screen.texts()[-1] == "step 19999"
    assert len(screen.texts()) < 100, "a state every second at most"


def test_a_bar_that_wipes_itself_out_leaves_nothing(start, screen):
    start(num_cpus=1)

    @ray.remote
    def bar():
        print("\r50%|####    |", end="", file=sys.stderr, flush=True)
        print("\r             \r", end="", file=sys.stderr, flush=True)
        print("done")

    ray.get(bar.remote())
    screen.until(1)
    ray.shutdown()
    assert screen.texts() == ["done"]
    assert [text for text in screen.texts("err") if not text.strip()] == []


def test_lines_with_the_ends_of_windows(start, screen):
    start(num_cpus=1)

    @ray.remote
    def say():
        os.write(1, b"one\r\ntwo\r\n\r\nthree\n")

    ray.get(say.remote())
    eventually(lambda: "three" in screen.texts(), LIMIT_S, "the last line has not come")
    assert [text for text in screen.texts() if text] == ["one", "two", "three"]


@pytest.mark.slow
def test_a_bar_is_replaced_in_place_on_a_terminal(tmp_path):
    with on_terminal(BARS + "print(ray.get(bar.remote('a', 5)))\nray.shutdown()\n", tmp_path) as program:
        for step in range(5):
            state = f"a {step}/5 |{'█' * step}"
            program.until(lambda rows, state=state: state in shown(rows), f"{state} is not shown")
            assert len(shown(program.terminal.rows)) == 1
            assert re.fullmatch(r"\(bar pid=\d+\) a .*", program.terminal.rows[-1])
            (tmp_path / f"a{step}").touch()
        rows = shown(program.finish())
    assert sorted(rows) == ["a", "a done"]


def test_several_bars_and_lines_between_them(tmp_path):
    code = BARS + (
        "refs = [bar.remote('a', 3), bar.remote('b', 3, 'stdout')]\n"
        "wait_for('say'); ray.get(say.remote('one', 'two')); print('the driver\\nspeaks')\n"
        "ray.get(refs)\nray.shutdown()\n"
    )
    with on_terminal(code, tmp_path) as program:
        program.until(lambda rows: {"a 0/3 |", "b 0/3 |"} <= set(shown(rows)), "both bars")
        (tmp_path / "say").touch()
        lines = {"one", "two", "the driver", "speaks", "a 0/3 |", "b 0/3 |"}
        program.until(lambda rows: lines <= set(shown(rows)), "both bars below the lines")
        program.until(lambda rows: {*shown(rows)[-2:]} == {"a 0/3 |", "b 0/3 |"}, "bars at the end")
        (tmp_path / "a0").touch()
        program.until(lambda rows: {*shown(rows)[-2:]} == {"a 1/3 |█", "b 0/3 |"}, "one bar goes on")
        assert len(shown(program.terminal.rows)) == 6
        for name in ("b0", "b1", "b2", "a1", "a2"):
            (tmp_path / name).touch()
        rows = shown(program.finish())
    assert sorted(rows) == sorted(["one", "two", "the driver", "speaks", "a done", "b done"])


def test_the_driver_prints_while_bars_are_drawn(tmp_path):
    """Whatever the driver prints, in pieces or lines or to either stream, stays to be read."""
    code = BARS + (
        "refs = [bar.remote('a', 2), bar.remote('b', 2)]\n"
        "wait_for('print')\n"
        "for number in range(50):\n"
        "    print('number', end=' '); sys.stdout.flush(); time.sleep(0.01)\n"
        "    print(number, file=sys.stderr if number % 2 else sys.stdout)\n"
        "    if number % 2: print()\n"
        "ray.get(refs)\nray.shutdown()\nprint('end')\n"
    )
    with on_terminal(code, tmp_path) as program:
        program.until(lambda rows: {"a 0/2 |", "b 0/2 |"} <= set(shown(rows)), "both bars")
        (tmp_path / "print").touch()
        program.until(lambda rows: {*shown(rows)[-2:]} == {"a 0/2 |", "b 0/2 |"} and "49" in str(rows), "bars below")
        for name in ("a0", "b0", "a1", "b1"):
            (tmp_path / name).touch()
        text = " ".join(shown(program.finish()))
    for number in range(50):
        assert re.search(rf"\b{number}\b", text), text
    assert text.count("number") == 50
    assert "a done" in text
    assert text.endswith("end")


@pytest.mark.parametrize("how", ["dumb", "prompt", "pipe"])
def test_what_is_no_terminal_gets_plain_lines(tmp_path, how):
    code = (
        BARS
        + ("sys.ps1 = '> '\n" if how == "prompt" else "")
        + "ray.get([quick.remote(2000), say.remote('hello')])\nray.shutdown()\n"
    )
    if how != "pipe":
        with on_terminal(code, tmp_path, term="dumb" if how == "dumb" else "xterm") as program:
            program.finish()
            text = program.raw
    else:
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=50)
        text = done.stdout + done.stderr
    assert "\x1b" not in text
    rows = shown(text.splitlines())
    assert {"hello", "quick 1999"} <= set(rows)
    assert len(rows) < 100


def test_a_line_longer_than_the_terminal_is_cut_until_it_ends(tmp_path):
    code = BARS + "ray.get(bar.remote('n' * 300, 1))\nray.shutdown()\n".replace("'n' * 300", "'n' * 200")
    with on_terminal(code, tmp_path) as program:
        program.until(lambda rows: any(row.endswith("nnn") for row in rows), "the beginning of the line")
        assert len(program.terminal.rows[-1]) == 119


def test_a_copy_of_the_driver_prints_while_bars_are_drawn(tmp_path):
    code = BARS + (
        "ref = bar.remote('a', 1)\nwait_for('fork')\n"
        "import warnings; warnings.simplefilter('ignore')\n"  # since 3.12 Python says that forks are risky
        "pid = os.fork()\n"
        "if not pid:\n"
        "    print('from the child', flush=True); os._exit(0)\n"
        "print('child', os.waitpid(pid, 0)[1])\n"
        "ray.get(ref)\nray.shutdown()\n"
    )
    with on_terminal(code, tmp_path) as program:
        program.until(lambda rows: "a 0/1 |" in shown(rows), "the bar")
        (tmp_path / "fork").touch()
        program.until(lambda rows: "child 0" in str(rows), "the child ends")
        (tmp_path / "a0").touch()
        text = str(program.finish())
    assert "from the child" in text
    assert "a done" in text
