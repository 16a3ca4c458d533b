"""A line of the driver without an end, such as a bar, on the terminal where bars and lines of workers are shown."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.test_logs_unfinished import BARS, shown
from tests.terminal import on_terminal

OWN = (
    BARS
    + """
put = sys.stderr.write  # kept, as tqdm does

def own(step):
    put(f"\\rown {step}/3 |{'#' * step}")
    sys.stderr.flush()

def own_bar(steps=3):
    for step in range(steps):
        own(step)
        wait_for(f"own{step}")
    put("\\rown all done\\n")
"""
)
FIRST, LATER = "own 0/3 |", "own 1/3 |#"


@pytest.mark.parametrize("first", ["driver", "worker"])
def test_a_bar_of_the_driver_and_one_of_a_worker(tmp_path: Any, first: str) -> None:
    begin = (
        "own(0)\nref = bar.remote('a', 2)\n" if first == "driver" else "ref = bar.remote('a', 2)\nwait_for('begin')\n"
    )
    code = OWN + begin + "own_bar()\nray.get(ref)\nwait_for('end')\nray.shutdown()\n"
    with on_terminal(code, tmp_path) as program:
        if first == "worker":
            program.until(lambda rows: shown(rows) == ["a 0/2 |"], "the worker's alone")
            (tmp_path / "begin").touch()
        program.until(lambda rows: shown(rows) == ["a 0/2 |", FIRST], "one below the other")
        (tmp_path / "own0").touch()
        program.until(lambda rows: shown(rows) == ["a 0/2 |", LATER], "the driver's goes on")
        (tmp_path / "a0").touch()
        program.until(lambda rows: shown(rows) == ["a 1/2 |█", LATER], "the worker's goes on")
        (tmp_path / "own1").touch()
        (tmp_path / "own2").touch()
        program.until(lambda rows: shown(rows) == ["own all done", "a 1/2 |█"], "the driver's has ended, and is above")
        (tmp_path / "a1").touch()
        program.until(lambda rows: shown(rows) == ["own all done", "a done"], "both have ended")
        (tmp_path / "end").touch()
        assert shown(program.finish()) == ["own all done", "a done"]


def test_lines_of_workers_go_above_the_drivers_bar(tmp_path: Any) -> None:
    code = OWN + (
        "own(0)\nray.get(say.remote('one', 'two'))\nwait_for('said')\nray.get(say.remote('three'))\n"
        "wait_for('all')\nown_bar(2)\nray.shutdown()\n"
    )
    with on_terminal(code, tmp_path) as program:
        program.until(lambda rows: shown(rows) == ["one", "two", FIRST], "two lines above it")
        (tmp_path / "said").touch()
        program.until(lambda rows: shown(rows) == ["one", "two", "three", FIRST], "three lines above it")
        (tmp_path / "all").touch()
        (tmp_path / "own0").touch()
        program.until(lambda rows: shown(rows)[-1] == LATER, "it goes on")
        (tmp_path / "own1").touch()
        assert shown(program.finish()) == ["one", "two", "three", "own all done"]


def test_the_end_of_a_line_comes_to_its_beginning(tmp_path: Any) -> None:
    """No bar; printed in parts, to a stream that keeps what has no end."""
    code = OWN + (
        "print('loading', end='... ')\nray.get([say.remote('one'), bar.remote('a', 0, last='')])\n"
        "wait_for('said')\nprint('loaded')\nray.shutdown()\n"
    )
    with on_terminal(code, tmp_path) as program:
        program.until(lambda rows: "one" in shown(rows), "the line")
        (tmp_path / "said").touch()
        rows = shown(program.finish())
    assert sorted(rows) == ["a done", "loading... loaded", "one"]


@pytest.mark.slow
def test_bars_of_the_driver_that_move_the_cursor_hide_no_lines(tmp_path: Any) -> None:
    code = OWN + (
        "put('\\router 1'); put('\\n\\rinner 1\\x1b[1A'); sys.stderr.flush()\n"
        "ray.get(say.remote('one', 'two'))\nwait_for('said')\nprint()\nprint()\nray.shutdown()\n"
    )
    with on_terminal(code, tmp_path) as program:
        program.until(lambda rows: {"one", "two"} <= set(shown(rows)), "the lines")
        (tmp_path / "said").touch()
        assert {"one", "two"} <= set(shown(program.finish()))


def test_afterwards_the_streams_are_as_before(tmp_path: Any) -> None:
    code = OWN + (
        "own(0)\nray.get(say.remote('one'))\nray.shutdown()\nown(1)\nprint()\n"
        "print([name for stream in (sys.stdout, sys.stderr) for name in vars(stream) if name == 'write'])\n"
        "ray.init(num_cpus=1)\nprint('again')\nray.shutdown()\n"
    )
    with on_terminal(code, tmp_path) as program:
        rows = shown(program.finish())
    assert rows == ["one", LATER, "[]", "again"]
