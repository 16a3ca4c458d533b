"""Modules beside a program that take the place of others: what that breaks is told with its cause."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest
from tests.quick import first_of

#: Without a main guard: what imports it runs it.
PROGRAM = """
import ray
ray.init(num_cpus=1)
print(ray.get(ray.remote(lambda: 42).remote(), timeout=40))
"""


@pytest.mark.parametrize("name", first_of(["asyncio", "numpy", "concurrent", "ssl", "setproctitle", "queue"], 2))
def test_a_program_with_the_name_of_what_workers_need(tmp_path, name):
    """The process that forks workers took it for that module, and started a session of its own, and so on for ever."""
    program = tmp_path / f"{name}.py"
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=55, check=False)
    if done.returncode:  # of what the program itself needs
        assert SENTENCE.format(folder=tmp_path, name=name) in done.stderr
    else:
        assert done.stdout == "42\n"


@pytest.mark.parametrize("text", ["", "raise RuntimeError('the wrong asyncio')"])
def test_a_module_beside_a_program_with_such_a_name(tmp_path, text):
    (tmp_path / "asyncio.py").write_text(text)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=55, check=False)
    assert (done.returncode, done.stdout) == (0, "42\n")


def test_a_program_that_the_runtime_imports_starts_no_session(tmp_path):
    """Where it does so all the same, for the driver has that module."""
    (tmp_path / "numpy.py").write_text(PROGRAM)
    program = tmp_path / "program.py"
    program.write_text(f"import sys, types; sys.modules['numpy'] = types.ModuleType('numpy')\n{PROGRAM}")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=55, check=False)
    assert (done.returncode, done.stdout) == (0, "42\n")


SENTENCE = "The file {folder}/{name}.py takes the place of the module '{name}' that is needed, "
STARTS = """
import ray
if __name__ == "__main__":
    ray.init(num_cpus=1, transport="{transport}", store="heap")
    ray.get(ray.remote(lambda: 1).remote(), timeout=40)
"""


def last_words(tmp_path, file, transport="unix"):
    program = tmp_path / file
    program.write_text(STARTS.format(transport=transport))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "transport"),
    [
        *(("msgspec", "unix"), ("pluggy", "unix"), ("cloudpickle", "unix"), ("zmq", "zmq")),
        pytest.param("tempfile", "unix", marks=pytest.mark.slow),
        pytest.param("dataclasses", "unix", marks=pytest.mark.slow),
    ],
)
def test_a_program_with_the_name_of_a_library(tmp_path, name, transport):
    if transport == "zmq":
        pytest.importorskip("ray_transport_zmq")
    said = last_words(tmp_path, f"{name}.py", transport)
    assert SENTENCE.format(folder=tmp_path, name=name) in said
    assert said.endswith(f"{name}/__init__.py: give your file another name.") or name in ("tempfile", "dataclasses")


def test_a_library_beside_the_program_that_cannot_be_imported(tmp_path):
    (tmp_path / "msgspec.py").write_text("raise ValueError('no library')\n")
    assert SENTENCE.format(folder=tmp_path, name="msgspec") in last_words(tmp_path, "program.py")


def test_names_that_have_nothing_to_do_with_a_failure(tmp_path):
    """The program has the name of a module of Python's; what fails is another one."""
    (tmp_path / "broken.py").write_text("import there_is_no_such_module\n")
    said = last_words(tmp_path, "wave.py", "broken:PLUGIN")
    assert "No module named 'there_is_no_such_module'" in said
    assert "takes the place" not in said


@pytest.mark.parametrize("name", ["heapq", "hashlib"])
def test_a_program_that_has_taken_the_place_of_a_module_is_told_at_once(tmp_path, name):
    """What goes wrong with it may go wrong anywhere."""
    program = tmp_path / f"{name}.py"
    program.write_text(STARTS.format(transport="unix"))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=55, check=False)
    assert f"[ray] {SENTENCE.format(folder=tmp_path, name=name)}" in done.stderr


def test_a_module_in_an_archive_that_has_taken_such_a_place(tmp_path):
    """What lies in there is no file that could be looked at."""
    program = tmp_path / "program.pyz"
    with zipfile.ZipFile(program, "w") as archive:
        archive.writestr("__main__.py", f"import colorsys\n{STARTS.format(transport='unix')}")
        archive.writestr("colorsys.py", "")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=55, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"[ray] {SENTENCE.format(folder=program, name='colorsys')}" in done.stderr
