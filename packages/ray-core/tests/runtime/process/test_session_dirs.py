"""What is swept of sessions whose processes are not seen here."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ray.runtime.process import session_dirs

MAKE = """
import os, sys
from ray.runtime.process.session_dirs import create_session_dir
create_session_dir(sys.argv[1], os.getpid())
"""


@pytest.fixture
def dead(monkeypatch):
    """The directory of a session that nobody cleans up."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as root:
        monkeypatch.setenv("XDG_RUNTIME_DIR", root)
        path = session_dirs.place_session(session_dirs.new_session_id())
        subprocess.run([sys.executable, "-c", MAKE, path], check=True, timeout=30)
        yield Path(path)


def test_what_a_dead_process_has_left_is_swept(dead):
    assert session_dirs.sweep_sessions() == 1
    assert not dead.exists()


@pytest.mark.skipif(not os.path.exists("/proc/self/ns/pid"), reason="no containers here")
def test_what_starts_in_another_container_is_not_swept_for_a_while(dead):
    """Its pids mean something else there."""
    pids = dead / "pids.txt"
    pids.write_text("pid:[1]")
    assert session_dirs.sweep_sessions() == 0
    assert dead.exists()
    long_ago = time.time() - 120
    os.utime(pids, (long_ago, long_ago))
    assert session_dirs.sweep_sessions() == 1
    assert not dead.exists()
