"""Imports of modules that other releases have say what there is instead; a mere look finds nothing, as ever."""

import importlib
import importlib.util
import pkgutil
import subprocess
import sys

import pytest

import ray
from ray.later_names import ABSENT, NAMES

PLACES = ("ray", "ray.experimental")
LATER = {
    place: [(name, found.text) for name, found in NAMES[place].items() if found.kind == ABSENT] for place in PLACES
}


def imports(place, name):
    """The ways to write it, each run with names of its own."""
    return [
        f"import {place}.{name}",
        f"import {place}.{name}.deeper as _",
        f"from {place} import {name}",
        f"from {place}.{name} import Something",
        f"import importlib; importlib.import_module('{place}.{name}')",
    ]


@pytest.mark.parametrize("place", PLACES)
def test_each_way_to_import_one_says_what_there_is_instead(place):
    for name, instead in LATER[place]:
        for statement in imports(place, name):
            with pytest.raises(ModuleNotFoundError) as caught:
                exec(statement, {})
            expected = f"No module named '{place}.{name}'. It is not in this release. {instead}".rstrip()
            assert str(caught.value) == expected, statement


@pytest.mark.parametrize("place", PLACES)
def test_whoever_only_looks_finds_nothing(place):
    for name, _ in LATER[place]:
        assert importlib.util.find_spec(f"{place}.{name}") is None
        assert not hasattr(importlib.import_module(place), name)
        assert f"{place}.{name}" not in sys.modules


def test_a_program_goes_on_without_it():
    try:
        from ray import serve
    except ImportError:
        serve = None
    assert serve is None
    with pytest.raises(ModuleNotFoundError):
        pkgutil.resolve_name("ray.tune:run")


def test_what_nobody_knows_is_refused_as_python_does():
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'ray\.nonsense'$") as caught:
        importlib.import_module("ray.nonsense")
    assert caught.value.name == "ray.nonsense"
    with pytest.raises(ImportError, match="cannot import name 'nonsense' from 'ray'"):
        exec("from ray import nonsense", {})
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'rayless'$"):
        importlib.import_module("rayless")


def test_a_worker_says_the_same(start):
    @ray.remote(max_retries=0)
    def task():
        from ray.util import collective

        return collective

    start(num_cpus=1)
    with pytest.raises(
        ModuleNotFoundError, match=r"No module named 'ray\.util\.collective'\. It is not in this release\."
    ):
        ray.get(task.remote())


def test_the_traceback_is_short():
    done = subprocess.run([sys.executable, "-c", "from ray import serve"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("File ") == 2, done.stderr
    assert done.stderr.endswith("It is not in this release. This package is the core; install such a library apart.\n")
