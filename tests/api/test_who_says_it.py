"""Hints and warnings of ray begin with ``[ray]`` where the program has configured no logging of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import datetime, logging, sys, ray

{setup}
ray.init(num_cpus=1, log_to_driver=True)
ref = ray.put(1)
ray.wait([ref], timeout=0.5)

k = 1
big = b"x" * (11 << 20)

@ray.remote
def read():
    return k, len(big)

@ray.remote
def hints():
    ray.wait([ray.put(1)], timeout=0.5)

ray.get(read.remote())
k = 2
ray.get([read.remote(), hints.remote()])
ray.shutdown()
"""
HINTS = ["wait(timeout=0.5) is in milliseconds", "when pickled", "The global variable 'k' has changed"]


def said(setup=""):
    """The lines that hold one of the hints."""
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM).format(setup=setup)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=True)
    lines = done.stderr.splitlines()
    return [line for hint in HINTS for line in lines if hint in line]


def test_each_hint_says_who_speaks():
    lines = said()
    assert len(lines) == len(HINTS) + 1, "one of them comes from a task as well"
    for line in lines:
        name, _, text = line.partition("[ray] ")
        assert text.startswith(("wait(timeout", "The ")) or "captures" in text
        assert not name or name.startswith("(hints pid=")


@pytest.mark.parametrize(
    ("setup", "begin"),
    [
        pytest.param("logging.basicConfig()", "WARNING:ray:", marks=pytest.mark.slow),
        ("logging.basicConfig(format='%(name)s says: %(message)s')", "ray says: "),
    ],
)
def test_where_the_program_logs_its_own_way_the_name_tells(setup, begin):
    own = [line for line in said(setup) if not line.startswith("(hints pid=")]
    assert len(own) == len(HINTS)
    assert all(line.startswith(begin) and "[ray]" not in line for line in own)
