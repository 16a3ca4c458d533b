"""Names of other releases: each does what the one table says, and the page shows the table.

Run as a program, this file renews the tables of the page.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import ray
from ray.later_names import ABSENT, ALIAS, IGNORED, NAMES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "migration-names.md"
MARK = "% The tables are written"

#: {place: (heading, how to write a name of it)}
HEADINGS = {
    "ray.init": ("Options of `ray.init`", "{}="),
    "runtime_env": ("Keys of `runtime_env`", '"{}"'),
    "a remote function": ("Options of remote functions", "{}="),
    "an actor class": ("Options of actor classes", "{}="),
    "an actor method": ("Options of actor methods", "{}="),
    "num_returns": ("Values of `num_returns`", 'num_returns="{}"'),
    "ray.get": ("Arguments of `ray.get`", "{}="),
    "ray.put": ("Arguments of `ray.put`", "{}="),
    "ray.wait": ("Arguments of `ray.wait`", "{}="),
    "ray": ("Attributes of `ray`", "ray.{}"),
    "ray.exceptions": ("Attributes of `ray.exceptions`", "{}"),
    "ray.experimental": ("Attributes of `ray.experimental`", "{}"),
    "ray.worker": ("Attributes of `ray.worker`", "{}"),
    "ray.get_runtime_context()": ("Attributes of what `ray.get_runtime_context()` returns", "{}"),
    "what ray.init() returns": ("Attributes of what `ray.init()` returns", "{}"),
    "the command 'ray'": ("Commands", "ray {}"),
    "a remote function or method": ("Attributes of remote functions and methods of handles", "{}"),
}


def tables() -> str:
    """The part of the page that is the table."""
    lines = []
    for place, (heading, form) in HEADINGS.items():
        lines += [f"## {heading}", "", "| name | what becomes of it |", "| --- | --- |"]
        for name, found in sorted(NAMES[place].items()):
            fate = {
                ALIAS: f"another name: `{form.format(found.text)}`",
                IGNORED: f"ignored: {found.text}",
                ABSENT: f"not here. {found.text}".rstrip(),
            }[found.kind]
            lines.append(f"| `{form.format(name)}` | {fate} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def introduction() -> str:
    text = PAGE.read_text()
    end = text.index("\n\n", text.index(MARK))
    return text[:end] + "\n\n"


def pairs(*places: str, kind: str | None = None) -> list[tuple[str, str]]:
    return [(p, n) for p in places or NAMES for n, found in NAMES[p].items() if kind in (None, found.kind)]


def test_the_page_shows_the_table():
    assert set(HEADINGS) == set(NAMES)
    assert PAGE.read_text() == introduction() + tables(), "run python tests/api/test_later_names.py"


@pytest.fixture
def hints(caplog, monkeypatch):
    """The hints that are logged in the test, of which none has been before."""
    monkeypatch.setattr(ray.later_names, "_hinted", set())
    caplog.set_level(logging.WARNING, "ray")
    return lambda: [record.message for record in caplog.records if "is ignored" in record.message]


# --- options of functions, classes and methods ---


@ray.remote
def f():
    return 1


@ray.remote
class A:
    def m(self):
        return 1


def deciding(place):
    """What takes an option of ``place``."""
    if place == "a remote function":
        return [lambda given: ray.remote(**given)(lambda: 1), lambda given: f.options(**given)]
    if place == "an actor class":
        return [lambda given: ray.remote(**given)(type("C", (), {})), lambda given: A.options(**given)]

    def method(given):
        @ray.remote
        class C:
            @ray.method(**given)
            def m(self):
                return 1

        return C

    return [method]


OPTIONS = ("a remote function", "an actor class", "an actor method")


@pytest.mark.parametrize("place", OPTIONS)
def test_options(place, hints):
    for name, found in NAMES[place].items():
        for decide in deciding(place):
            decide({name: None})  # the default of each
            if found.kind == ABSENT:
                with pytest.raises(ValueError, match=rf"'{name}' is not an option of .*not in this release.") as raised:
                    decide({name: 2})
                assert found.text in str(raised.value)
            elif found.kind == ALIAS:
                decide({name: 2})
                with pytest.raises(ValueError, match="are the same option"):
                    decide({name: 2, found.text: 2})
            else:
                decide({name: 2})
    told = hints()
    assert len(told) == len(set(told)) == len(pairs(place, kind=IGNORED))
    assert all(f"of {place} is ignored: " in hint for hint in told)


def test_options_of_the_wrong_target():
    for names in ("num_return_vals", "max_reconstructions"):
        with pytest.raises((TypeError, ValueError), match="is an option of"):
            (A if names == "num_return_vals" else f).options(**{names: 2})
    with pytest.raises(ValueError, match="needs max_restarts"):
        A.options(max_task_retries=1)
    A.options(max_task_retries=1, max_reconstructions=3)


# --- ray.init ---


def test_options_of_init_that_are_not_here():
    for _, name in pairs("ray.init", kind=ABSENT):
        with pytest.raises(TypeError, match=rf"no option '{name}'. It is not in this release.") as raised:
            ray.init(**{name: 1})
        assert NAMES["ray.init"][name].text in str(raised.value)
    assert not ray.is_initialized()


def test_options_of_init_that_are_ignored(hints):
    ignored = [name for _, name in pairs("ray.init", kind=IGNORED)]
    absent = dict.fromkeys(name for _, name in pairs("ray.init", kind=ABSENT))
    with ray.init(local_mode=True, _memory=2**20, **dict.fromkeys(ignored, 3), **absent):
        assert ray.cluster_resources()["memory"] == 2**20
    told = hints()
    assert len(told) == len(ignored)
    with ray.init(local_mode=True, **dict.fromkeys(ignored, 3)):
        assert hints() == told  # once per process
    with ray.init(local_mode=True, **dict.fromkeys(ignored)):
        pass


def test_both_names_of_an_option_of_init():
    with pytest.raises(ValueError, match="_memory=2097152 and memory=1048576 are the same option"):
        ray.init(local_mode=True, memory=2**20, _memory=2**21)
    for given in ({"memory": None, "_memory": 2**21}, {"_memory": 2**21, "memory": None}):
        with ray.init(local_mode=True, **given):
            assert ray.cluster_resources()["memory"] == 2**21


@pytest.mark.parametrize(
    "name", ["num_workers", "num_redis_shards", "redis_max_clients", "plasma_directory", "huge_pages", "temp_dir"]
)
def test_what_describes_the_machine_is_not_given_with_an_address(name):
    with pytest.raises(ValueError, match=rf"When connecting to an existing cluster.*, {name} must not be provided"):
        ray.init(address="127.0.0.1:6379", **{name: 1})


def test_what_may_be_given_with_an_address():
    given = {
        "namespace": "n",
        "log_to_driver": False,
        "ignore_reinit_error": True,
        "logging_level": 20,
        "observers": [],
    }
    with pytest.raises(ray.exceptions.RayConnectionError, match="No cluster answers"):
        ray.init(address="127.0.0.1:1025", **given)


# --- get, put and wait ---


def test_arguments_of_calls(hints):
    with ray.init(local_mode=True):
        ref = ray.put(4)
        assert ray.get(object_ids=ref) == ray.get(object_refs=ref) == 4
        assert ray.get(object_ids=[ref, ref], timeout=1, copy=True) == [4, 4]
        assert ray.wait(object_ids=[ref]) == ray.wait(object_refs=[ref], fetch_local=False) == ([ref], [])
        calls = {"ray.get": (ray.get, ref), "ray.put": (ray.put, 4), "ray.wait": (ray.wait, [ref])}
        for place, (call, argument) in calls.items():
            for name, found in NAMES[place].items():
                call(argument, **{name: None})
                if found.kind == ABSENT:
                    with pytest.raises(TypeError, match=rf"'{name}'. It is not in this release"):
                        call(argument, **{name: 1})
                elif found.kind == ALIAS:
                    with pytest.raises(TypeError, match=f"multiple values for argument '{found.text}'"):
                        call(argument, **{name: argument})
                else:
                    call(argument, **{name: True})
            with pytest.raises(TypeError, match="unexpected keyword argument 'nope'"):
                call(argument, nope=1)
            with pytest.raises(TypeError, match="missing 1 required positional argument"):
                call()
        with pytest.raises(TypeError, match=r"'num_return'. Did you mean 'num_returns'"):
            ray.wait([ref], num_return=1)
    assert len(hints()) == len(pairs("ray.get", "ray.put", "ray.wait", kind=IGNORED))


# --- attributes ---


@pytest.mark.parametrize("place", ["ray", "ray.exceptions", "ray.experimental", "ray.worker"])
def test_attributes_of_modules(place):
    module = ray if place == "ray" else getattr(ray, place.removeprefix("ray."))
    for name, found in NAMES[place].items():
        if found.kind == ALIAS:
            assert getattr(module, name) is getattr(module, found.text)
        else:
            assert not hasattr(module, name)
            with pytest.raises(AttributeError, match=f"no attribute '{name}'. It is not in this release") as raised:
                getattr(module, name)
            assert found.text in str(raised.value)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = module.nope


def test_attributes_of_functions_methods_and_the_context():
    with ray.init(local_mode=True) as session:
        actor = A.remote()
        things = [(each, "a remote function or method") for each in (f, A, actor.m)]
        things.append((session, "what ray.init() returns"))
        for thing, place in [*things, (ray.get_runtime_context(), "ray.get_runtime_context()")]:
            for name, found in NAMES[place].items():
                assert not hasattr(thing, name)
                with pytest.raises(AttributeError, match=f"no attribute '{name}'. It is not in this release") as raised:
                    getattr(thing, name)
                assert found.text in str(raised.value)
            with pytest.raises(AttributeError, match="no attribute 'nope'"):
                _ = thing.nope


# --- the table itself ---


def test_the_table_names_only_what_is_missing():
    for place, name in pairs("ray", "ray.worker", "ray.experimental"):
        assert name not in (ray if place == "ray" else getattr(ray, place[4:])).__all__
    for place, names in NAMES.items():
        for name, found in names.items():
            assert found.kind in (ALIAS, IGNORED, ABSENT), (place, name)
            assert found.text or found.kind == ABSENT
            if found.kind == IGNORED:
                assert found.text[0].islower() or not found.text[0].isalpha()
                assert not found.text.endswith(".")
            if found.kind == ABSENT and found.text:
                assert found.text.endswith((".", ")", "__")), (place, name)


if __name__ == "__main__":
    PAGE.write_text(introduction() + tables())
