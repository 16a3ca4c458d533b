"""``ray.init`` whose node manager or store dies meanwhile: a RaySystemError says so, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

import ray
from ray.exceptions import RaySystemError


def deadly(victim, number, *, at_once, waits=True, inner="unix"):
    chosen = {"victim": victim, "number": number, "at_once": at_once, "waits": waits, "inner": inner}
    return {
        "transport": "tests.faults.deadly_transport",
        "options": {"transport": {"driver": os.getpid(), **chosen}},
        "num_cpus": 1,
        "log_to_driver": False,
    }


@pytest.mark.parametrize("inner", ["unix", "zmq"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_node_manager_dies_before_it_is_reached(start, inner, number):
    how = "signal 9" if number == signal.SIGKILL else "exit code 0"
    with pytest.raises(RaySystemError, match=f"node manager has ended while the session was started: {how}") as caught:
        start(store="heap", **deadly("node", number, at_once=False, inner=inner))
    assert isinstance(caught.value.__cause__, ConnectionError)


@pytest.mark.parametrize("store", ["plasma", "shm"])
@pytest.mark.parametrize("victim", ["node", "store"])
def test_a_part_dies_before_the_store_is_reached(start, store, victim):
    how = "signal 9" if victim == "node" else "exit code 0"
    with pytest.raises(RaySystemError, match=f"node manager has ended while the session was started: {how}") as caught:
        start(store=store, **deadly(victim, signal.SIGKILL, at_once=True))
    if victim == "store":
        assert "the process of the object store" in str(caught.value)
    assert isinstance(caught.value.__cause__, (ConnectionError, FileNotFoundError))  # its directory goes with it


def start_and_wait(start, **options):
    start(store="heap", **options)
    ray.get(ray.remote(time.sleep).remote(60), timeout=20)


@pytest.mark.parametrize("inner", ["unix", "zmq"])
def test_it_dies_at_that_very_moment(start, inner):
    """The session may still be joined; then the first call says what has happened."""
    with pytest.raises(RaySystemError, match=r"node manager|node .* died"):
        start_and_wait(start, **deadly("node", signal.SIGKILL, at_once=False, waits=False, inner=inner))
    ray.shutdown()


def test_the_node_manager_dies_before_it_is_told_what_to_do(start, monkeypatch, tmp_path):
    """It ends before it has read its first line."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(RaySystemError, match="did not start: the process ended: exit code 3"):
        start(num_cpus=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="others are told that they cannot write there")
@pytest.mark.parametrize("other", ["/nonexistent", "/sys"])
def test_a_directory_that_only_seems_to_be_writable(other, tmp_path):
    """The superuser's."""
    code = "import ray; ray.init(num_cpus=1, store='heap', log_to_driver=False); print(ray.get(ray.put('ran')))"
    environment = {**os.environ, "XDG_RUNTIME_DIR": "/proc", "TMPDIR": other}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout == "ran\n", done.stderr
