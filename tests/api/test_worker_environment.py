"""What a worker finds: modules where the program looks for them now, and threads for as many CPUs as its task has."""

import os
import pathlib
import subprocess
import sys

import pytest

import ray
from ray.testing import leaks

VARIABLES = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"]


@pytest.fixture(scope="module", autouse=True)
def session():
    before = leaks.snapshot()
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        patch.setenv("MKL_NUM_THREADS", "7")
        with ray.init(num_cpus=4):
            yield
    leaks.assert_clean(before)


@pytest.fixture(autouse=True)
def nothing_left():
    """Takes the place of the check around each test, which wants no session."""


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """A module in a folder that is on this program's path only now, after the session was started."""
    name = f"late_{request.node.name.replace('[', '_').replace(']', '')}"
    text = "class Thing:\n    def __init__(self): self.number = 5\ndef number(): return 6\n"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


@ray.remote
def number_of(thing):
    return thing.number


@ray.remote
def import_it(name):
    return __import__(name).number()


@ray.remote
def threads():
    return {name: os.environ.get(name) for name in VARIABLES}


# --- modules ----------------------------------------------------------------------------------------------------------


def test_functions_of_a_module_found_late(module):
    assert ray.get(ray.remote(__import__(module).number).remote(), timeout=30) == 6


def test_arguments_of_a_module_found_late(module):
    assert ray.get(number_of.remote(__import__(module).Thing()), timeout=30) == 5


def test_imports_in_a_task_and_in_its_tasks(module):
    @ray.remote
    def deeper(name):
        return ray.get(import_it.remote(name))

    assert ray.get(import_it.remote(module), timeout=30) == 6
    assert ray.get([deeper.remote(module) for _ in range(4)], timeout=30) == [6] * 4


def test_imports_in_an_actor_that_lives_already(tmp_path, monkeypatch):
    @ray.remote
    class Importing:
        def number(self, name):
            return __import__(name).number()

    actor = Importing.remote()
    with pytest.raises(ModuleNotFoundError):
        ray.get(actor.number.remote("found_at_the_second_try"))
    (tmp_path / "found_at_the_second_try.py").write_text("def number(): return 8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert ray.get(actor.number.remote("found_at_the_second_try"), timeout=30) == 8


def test_a_module_that_is_nowhere():
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has") as caught:
        ray.get(import_it.remote("a_module_that_nobody_has"))
    text = str(caught.value)
    assert f"Process {caught.value.pid} has looked for 'a_module_that_nobody_has' in " in text
    assert "add the folder of the module there, or install its package" in text


@ray.remote
def import_where_something_odd_is(notes):
    odd = pathlib.Path("/nowhere/at/all")
    if odd not in sys.path:
        sys.path.insert(0, odd)
    try:
        import a_module_that_nobody_has  # noqa: F401
    except ModuleNotFoundError as error:
        if notes is not None:
            error.__notes__ = notes
        raise


@pytest.mark.parametrize("notes", [None, [], ["mine"], [1], 5, ("a",)], ids=str)
def test_a_module_that_is_nowhere_and_oddities(notes):
    """A path that is no text, and notes of the program's own, do not take the error's text away."""
    with pytest.raises(ModuleNotFoundError) as caught:
        ray.get(import_where_something_odd_is.remote(notes))
    assert "No module named 'a_module_that_nobody_has'" in str(caught.value)
    if notes is None or isinstance(notes, list):
        assert " has looked for 'a_module_that_nobody_has' in " in str(caught.value)
        assert "'/nowhere/at/all'" in str(caught.value)


# --- threads of native libraries --------------------------------------------------------------------------------------


def expected(count):
    return {name: "7" if name == "MKL_NUM_THREADS" else str(count) for name in VARIABLES}


@pytest.mark.parametrize(("cpus", "count"), [(1, 1), (3, 3), (0, 1), (0.5, 1), (2.5, 2)])
def test_a_task_has_a_thread_for_each_of_its_cpus(cpus, count):
    assert ray.get(threads.options(num_cpus=cpus).remote(), timeout=30) == expected(count)


def test_so_has_an_actor():
    @ray.remote
    class Actor:
        def __init__(self):
            self.at_first = {name: os.environ.get(name) for name in VARIABLES}

        def get(self):
            return self.at_first, {name: os.environ.get(name) for name in VARIABLES}

    assert ray.get(Actor.remote().get.remote()) == (expected(1), expected(1))
    assert ray.get(Actor.options(num_cpus=3).remote().get.remote()) == (expected(3), expected(3))


def test_this_process_is_left_as_it_was():
    assert "OMP_NUM_THREADS" not in os.environ


def test_numpy_that_was_loaded_before_is_told():
    pytest.importorskip("numpy")
    program = """
import numpy, ray
ray.init(num_cpus=4, log_to_driver=False)
@ray.remote
def used():
    import ctypes, numpy
    [path] = {line.split()[-1] for line in open("/proc/self/maps") if "openblas" in line} or {None}
    library = path and ctypes.CDLL(path)
    get = library and getattr(library, "scipy_openblas_get_num_threads64_", None)
    return get and get()
print([ray.get(used.options(num_cpus=n).remote()) for n in (1, 3, 1)])
"""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True, env=environment)
    assert done.stdout in ("[1, 3, 1]\n", "[None, None, None]\n")
