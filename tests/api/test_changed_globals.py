"""Globals, helpers and modules that have changed since a function was sent: one warning, which names the variable."""

import importlib
import logging
import sys

import pytest

import ray
from ray.testing import leaks

PROGRAM = """
import ray
{more}
LIMIT = 1
def helper(): return LIMIT
@ray.remote
def f(): return helper()
@ray.remote
def direct(): return LIMIT
@ray.remote
class Actor:
    def get(self): return LIMIT
"""


@pytest.fixture(scope="module", autouse=True)
def session():
    before = leaks.snapshot()
    with ray.init(num_cpus=2):
        yield
    leaks.assert_clean(before)


@pytest.fixture(autouse=True)
def nothing_left():
    """Takes the place of the check around each test, which wants no session."""


@pytest.fixture
def main():
    """The names of a program, as if typed at a prompt."""
    names = {"__name__": "__main__"}
    exec(compile(PROGRAM.format(more=""), "<program>", "exec"), names)
    return names


def said(caplog):
    found = [record.getMessage() for record in caplog.records if "sent to workers" in record.getMessage()]
    caplog.clear()
    return found


def test_a_variable(main, caplog):
    with caplog.at_level(logging.WARNING, "ray"):
        for _ in range(3):
            assert ray.get(main["direct"].remote()) == 1
        assert said(caplog) == []
        main["LIMIT"] = 2
        assert ray.get([main["direct"].remote() for _ in range(3)]) == [1, 1, 1]
        [text] = said(caplog)
        assert text.startswith("The global variable 'LIMIT' has changed since direct was sent to workers")
        assert "Pass it as an argument, or decorate direct again" in text
        main["LIMIT"] = 3
        ray.get(main["direct"].remote())
        assert said(caplog) == []
        again = ray.remote(main["direct"]._function)
        assert ray.get(again.remote()) == 3
        assert said(caplog) == []


def test_a_variable_of_a_helper_and_the_helper(main, caplog):
    with caplog.at_level(logging.WARNING, "ray"):
        assert ray.get(main["f"].remote()) == 1
        main["LIMIT"] = 2
        ray.get(main["f"].remote())
        assert "'LIMIT'" in said(caplog)[0]
        exec("def helper(): return -1", main)
        assert ray.get(main["f"].remote()) == 1
        assert "'helper'" in said(caplog)[0]


def test_of_an_actor_class(main, caplog):
    with caplog.at_level(logging.WARNING, "ray"):
        assert ray.get(main["Actor"].remote().get.remote()) == 1
        main["LIMIT"] = 2
        assert ray.get(main["Actor"].remote().get.remote()) == 1
        assert "'LIMIT' has changed since Actor was sent" in said(caplog)[0]


def test_what_is_the_same_again(main, caplog):
    """A cell that is run once more."""
    with caplog.at_level(logging.WARNING, "ray"):
        main["LIMIT"] = "a long text"
        assert ray.get(main["f"].remote()) == "a long text"
        main["LIMIT"] = " ".join(["a", *["long", "text"]])
        helper = main["helper"]
        main["helper"] = type(helper)(helper.__code__, main)
        main["f"] = main["f"].options(num_cpus=0.5)
        assert ray.get(main["f"].remote()) == "a long text"
        assert said(caplog) == []


def test_a_module_that_is_loaded_anew(tmp_path, monkeypatch, caplog):
    (tmp_path / "edited_module.py").write_text("def value(): return 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    names = {"__name__": "__main__"}
    exec("import ray, edited_module\n@ray.remote\ndef f(): return edited_module.value()", names)
    try:
        with caplog.at_level(logging.WARNING, "ray"):
            assert ray.get(names["f"].remote(), timeout=30) == 1
            (tmp_path / "edited_module.py").write_text("def value(): return 2222")
            importlib.reload(names["edited_module"])
            assert ray.get(names["f"].remote()) == 1
            [text] = said(caplog)
            assert "The module 'edited_module' was loaded anew since f was sent to workers" in text
    finally:
        sys.modules.pop("edited_module", None)
