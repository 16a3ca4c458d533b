"""Exactly the processes that are meant are ended, politely first."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from ray.runtime.cluster.process_ends import Process, end_processes
from ray.runtime.process.session_dirs import start_time

POLITE = "print('ready', flush=True); import time; time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {POLITE}"


@pytest.fixture
def running():
    programs = []

    def run(program):
        programs.append(subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE))
        assert programs[-1].stdout.readline()
        return programs[-1], Process(programs[-1].pid, start_time(programs[-1].pid))

    yield run
    for program in programs:
        program.kill()
        program.communicate()


def test_they_end_and_those_that_do_not_are_killed(running):
    (polite, one), (deaf, other) = running(POLITE), running(DEAF)
    begun = time.monotonic()
    assert end_processes([one, other], 0.5) == [other]
    assert 0.4 < time.monotonic() - begun < 20
    assert (polite.wait(), deaf.wait()) == (-15, -9)


def test_none_of_another_time(running):
    program, process = running(POLITE)
    assert process.is_alive
    other = Process(process.pid, str(int(process.started) - 1))
    assert not other.is_alive
    assert end_processes([other], 0.2) == []
    assert program.poll() is None


def test_what_has_ended_is_no_error(running):
    program, process = running(POLITE)
    program.kill()
    program.wait()
    late = Process(program.pid, start_time(program.pid))
    assert not process.is_alive
    assert not late.is_alive
    assert end_processes([process, late, Process(0, ""), Process(2**22 - 1, "1")]) == []
