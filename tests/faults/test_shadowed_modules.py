"""Modules beside a program that take the place of others: what that breaks is told with its cause."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ray
try:
    ray.init(num_cpus=1)
    ray.get(ray.remote(lambda: 1).remote(), timeout=40)
except ray.exceptions.RayError as error:
    print(type(error).__name__, error)
"""


def test_a_module_without_which_no_worker_starts(tmp_path):
    """The traceback names the file."""
    (tmp_path / "asyncio.py").write_text("raise RuntimeError('the wrong asyncio')\n")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=55, check=False)
    said = done.stdout + done.stderr
    assert "the wrong asyncio" in said
    assert str(tmp_path / "asyncio.py") in said
