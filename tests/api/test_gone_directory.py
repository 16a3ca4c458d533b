"""A program whose working directory has been removed can start a session, and its workers find their modules."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import os, sys
{before}
import ray
{between}
ray.init(num_cpus=1)
{after}

@ray.remote
def imports():
    import colorsys
    try:
        import no_module_of_this_name
    except ModuleNotFoundError:
        return colorsys.__name__

print(ray.get(imports.remote(), timeout=30))
ray.shutdown()
"""
REMOVE = "folder = os.getcwd(); os.rmdir(folder)"


def imports_nothing_there(tmp_path):
    """Whether this Python (3.13.0) fails to import even its own modules in a directory that is gone."""
    folder = tmp_path / "gone"
    folder.mkdir()
    code = f"import os; {REMOVE}; import socket"
    return b"SystemError" in subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True).stderr


def run(tmp_path, kind, when, pieces=PROGRAM):
    folder = tmp_path / "here"
    folder.mkdir()
    code = textwrap.dedent(pieces).format(**{"before": "", "between": "", "after": "", when: REMOVE})
    path = tmp_path / "program.py"
    path.write_text(code)
    command = {"text": ["-c", code], "file": [str(path)], "stdin": ["-"]}[kind]
    done = subprocess.run(
        [sys.executable, *command], input=code if kind == "stdin" else None, cwd=folder,
        capture_output=True, text=True, timeout=55, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("kind", "when"),
    [
        ("text", "before"),
        ("text", "after"),
        pytest.param("stdin", "between", marks=pytest.mark.slow),
        pytest.param("file", "before", marks=pytest.mark.slow),
    ],
)
def test_a_session_of_a_program_in_no_directory(tmp_path, kind, when):
    if when == "before" and imports_nothing_there(tmp_path):
        pytest.skip("this Python imports nothing there")
    assert run(tmp_path, kind, when) == "colorsys\n"
