"""What a program sends to its workers on one machine: ``working_dir`` and ``runtime_env``."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import ray


@pytest.fixture
def program(tmp_path):
    root = tmp_path / "program"
    root.mkdir()
    (root / "sent_here.py").write_text("VALUE = 1\n")
    (root / "data.txt").write_text("data")
    return root


@ray.remote
def look():
    import sys

    import sent_here

    return os.getcwd(), sys.path[0], sent_here.VALUE, Path("data.txt").read_text()


def test_workers_begin_in_a_copy(program):
    before = os.getcwd(), list(sys.path)
    with ray.init(num_cpus=1, working_dir=program) as session:
        (program / "sent_here.py").write_text("VALUE = 2\n")
        place, first, value, text = ray.get(look.remote(), timeout=30)
        assert (value, text) == (1, "data")
        assert place == first
        assert os.path.dirname(place) == session["session_dir"]
    assert not os.path.exists(place)
    assert (os.getcwd(), sys.path) == before
    with ray.init(num_cpus=1, runtime_env={"working_dir": str(program)}):
        assert ray.get(look.remote(), timeout=30)[2] == 2


def test_a_relative_path_and_a_home(program, monkeypatch):
    monkeypatch.chdir(program)
    monkeypatch.setenv("HOME", str(program.parent))
    for path in (".", "~/program", "../program"):
        with ray.init(num_cpus=1, working_dir=path):
            assert ray.get(look.remote(), timeout=30)[2] == 1


@ray.remote
def environment(*names):
    return [os.environ.get(name) for name in names]


def test_variables_are_those_of_workers_alone(monkeypatch):
    monkeypatch.setenv("RAY_TEST_KEPT", "kept")
    wanted = {"RAY_TEST_ONE": "1", "RAY_TEST_TWO": "a = b\n\udcff", "OMP_NUM_THREADS": "7", "TZ": "Asia/Tokyo"}
    with ray.init(num_cpus=2, runtime_env={"env_vars": wanted}):
        found = ray.get(environment.remote(*wanted, "RAY_TEST_KEPT"), timeout=30)
        assert found == [*wanted.values(), "kept"]
        assert ray.get(ray.remote(lambda: time.tzname[0]).remote(), timeout=30) == "JST"
        assert ray.get(environment.options(num_cpus=2).remote("OMP_NUM_THREADS"), timeout=30) == ["7"]
    assert "RAY_TEST_ONE" not in os.environ


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"working_dir": 3}, TypeError, "must be the path of a directory, not 3"),
        ({"working_dir": b"."}, TypeError, "must be the path of a directory"),
        ({"working_dir": ""}, ValueError, "must be the path of a directory, not ''"),
        ({"working_dir": "s3://bucket/code.zip"}, ValueError, "only a directory of this machine"),
        ({"working_dir": "/nope"}, ValueError, "'/nope' does not exist"),
        ({"working_dir": __file__}, ValueError, "is a file, not a directory"),
        ({"working_dir": ".", "runtime_env": {"working_dir": "x"}}, ValueError, "are the same option"),
        ({"runtime_env": "."}, TypeError, "runtime_env must be a dict"),
        ({"runtime_env": {"wroking_dir": "."}}, ValueError, "no key 'wroking_dir'. Did you mean 'working_dir'"),
        ({"runtime_env": {3: "."}}, ValueError, "no key 3"),
        ({"runtime_env": {"excludes": ["x"]}}, ValueError, "It is not in this release. Name what is not to be sent in"),
        ({"runtime_env": {"env_vars": ["A"]}}, TypeError, "must be a dict of names"),
        ({"runtime_env": {"env_vars": {"A": 1}}}, TypeError, "not 'A': 1"),
        ({"runtime_env": {"env_vars": {"A=B": "1"}}}, ValueError, "no variable can be 'A=B'"),
        ({"runtime_env": {"env_vars": {"A": "\0"}}}, ValueError, "no variable can be"),
        ({"runtime_env": {"env_vars": {"A": "\ud800"}}}, ValueError, "cannot be encoded"),
        ({"runtime_env": {"env_vars": {"A": "x" * 2_000_000}}}, ValueError, "have 2,000,001 bytes; at most 1,048,576"),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("local_mode", [False, True])
def test_what_is_wrong_is_said_before_anything_starts(options, error, text, local_mode):
    with pytest.raises(error) as raised:
        ray.init(local_mode=local_mode, **options)
    assert text in str(raised.value)
    assert not ray.is_initialized()


def test_what_is_none_is_not_given(program):
    with ray.init(num_cpus=1, working_dir=None, runtime_env={"working_dir": None, "env_vars": None}):
        assert ray.get(ray.remote(os.getcwd).remote(), timeout=30) == os.getcwd()


def test_in_local_mode_the_program_is_where_it_is(program):
    with ray.init(local_mode=True, working_dir=program, runtime_env={"env_vars": {"RAY_TEST_ONE": "1"}}):
        assert ray.get(environment.remote("RAY_TEST_ONE")) == [None]


def test_init_again_looks_at_the_options(program):
    with ray.init(num_cpus=1), pytest.raises(ValueError, match="no key 'pip'"):
        ray.init(ignore_reinit_error=True, runtime_env={"pip": []})


def test_links_are_named_in_a_warning(program, caplog):
    (program / "link.py").symlink_to("sent_here.py")
    caplog.set_level(logging.WARNING, "ray")
    with ray.init(num_cpus=1, working_dir=program):
        assert ray.get(look.remote(), timeout=30)[2] == 1
    assert "symbolic links are not sent: link.py" in caplog.text


# --- what is said of a module that a worker does not find ---

SCRIPT = """
    import os, sys
    import ray
    folder = sys.path.pop(0)  # as on a machine that does not have it
    ray.init(num_cpus=1, log_to_driver=False{options})

    @ray.remote
    def f(name):
        __import__(name)

    @ray.remote
    class A:
        def __init__(self, name):
            __import__(name)

        def m(self):
            pass

    for call in (lambda: f.remote({module!r}), lambda: A.remote({module!r}).m.remote()):
        try:
            ray.get(call(), timeout=30)
        except ModuleNotFoundError as error:
            print(error)
        else:
            print("found")
    ray.shutdown()
"""


def said(folder, module, options=""):
    """What the script says that lies in ``folder`` and runs elsewhere."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).format(module=module, options=options))
    ran = subprocess.run([sys.executable, str(script)], cwd="/", capture_output=True, text=True, timeout=60, check=True)
    return ran.stdout


@pytest.mark.parametrize("module", ["beside", "package.part"])
def test_a_module_beside_the_script_is_found_with_working_dir(tmp_path, module):
    (tmp_path / "beside.py").touch()
    (tmp_path / "package").mkdir()
    for name in ("__init__.py", "part.py"):
        (tmp_path / "package" / name).touch()
    text = said(tmp_path, module)
    assert text.count(f"The program has it on its machine, in {str(tmp_path)!r}: ray.init(working_dir=") == 2
    assert said(tmp_path, module, ", working_dir=folder") == "found\nfound\n"


def test_one_that_is_nowhere_or_was_left_out_has_no_such_hint(tmp_path):
    (tmp_path / "beside.py").touch()
    assert "working_dir" not in said(tmp_path, "nowhere")
    (tmp_path / ".rayignore").write_text("beside.py\n")
    text = said(tmp_path, "beside", ", working_dir=folder")
    assert text.count("No module named 'beside'") >= 2
    assert "ray.init(working_dir=" not in text
