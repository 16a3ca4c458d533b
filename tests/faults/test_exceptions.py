"""Every kind of exception, through real workers: the right class and text arrive, and the worker lives on."""

from __future__ import annotations

import copy
import importlib
import os
import pickle
import sys
import time
import traceback
from pathlib import Path

import pytest

import ray
from ray.exceptions import RayTaskError

HERE = str(Path(__file__).parent)


@pytest.fixture
def kinds(monkeypatch):
    """The table, importable here and in the workers, which take over the path."""
    monkeypatch.setattr(sys, "path", [HERE, *sys.path])
    for name in ("exception_kinds", "only_in_the_worker"):
        monkeypatch.delitem(sys.modules, name, raising=False)  # what was imported before is there again afterwards
    module = importlib.import_module("exception_kinds")
    yield module.KINDS
    for name in ("exception_kinds", "only_in_the_worker"):
        sys.modules.pop(name, None)


def run_kind(name):
    import exception_kinds

    next(kind for kind in exception_kinds.KINDS if kind.name == name).run()


fail = ray.remote(max_retries=0)(run_kind)


@ray.remote(max_retries=0)
def raise_again(error):
    raise error


@ray.remote
def echo(value):
    return value


@ray.remote
def pid():
    return os.getpid()


@ray.remote
class Failing:
    def fail(self, name):
        run_kind(name)

    def pid(self):
        return os.getpid()


def error_of(ref):
    try:
        value = ray.get(ref, timeout=30)
    except BaseException as error:
        return error
    raise AssertionError(f"no error, but {value!r}")


def check(kind, error, function, worker):
    assert isinstance(error, RayTaskError), f"a {type(error).__mro__}"
    if kind.expected is None:
        assert type(error) is RayTaskError
    else:
        assert isinstance(error, kind.expected)
    text = str(error)
    assert kind.text in text
    assert len(text) < 150_000
    assert error.function_name == function
    assert error.pid == worker
    assert f"task {function} (pid={worker}, " in text
    assert f"task={error.task_id.hex()}" in text
    assert "exception_kinds.py" in text
    assert ", line " in text
    if kind.cause is None:
        assert error.__cause__ is None
    else:
        assert isinstance(error.__cause__, kind.cause)


def check_copies(kind, error, function, worker):
    for again in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        check(kind, again, function, worker)
        with pytest.raises(RayTaskError):
            raise again


def for_each(kinds, examine):
    """Run them all, and fail with all that went wrong."""
    problems = []
    for kind in kinds:
        started = time.monotonic()
        try:
            examine(kind)
        except Exception:
            problems.append(f"{kind.name}:\n{traceback.format_exc(limit=4)[-1500:]}")
        took = time.monotonic() - started
        if took > 0.5:
            print(f"{kind.name}: {took:.2f} s")
    assert not problems, f"{len(problems)} of {len(kinds)}:\n" + "\n".join(problems)


@pytest.mark.timeout(120)
def test_every_kind_through_a_task(start, kinds):
    assert len(kinds) >= 40
    start(num_cpus=1, log_to_driver=False)
    worker = ray.get(pid.remote(), timeout=30)

    def examine(kind):
        ref = fail.remote(kind.name)
        error = error_of(ref)
        check(kind, error, "run_kind", worker)
        assert error_of(ref) is not error
        check_copies(kind, error, "run_kind", worker)
        check(kind, error_of(echo.remote(ref)), "run_kind", worker)
        assert ray.get(pid.remote(), timeout=30) == worker

    for_each(kinds, examine)


@pytest.mark.timeout(120)
def test_every_kind_raised_again_in_a_second_task(start, kinds):
    start(num_cpus=1, log_to_driver=False)
    worker = ray.get(pid.remote(), timeout=30)

    def examine(kind):
        first = error_of(fail.remote(kind.name))
        second = error_of(raise_again.remote(first))
        check(kind, second, "run_kind", worker)
        assert "passed on by task raise_again" in str(second)
        assert second.task_id == first.task_id
        assert ray.get(pid.remote(), timeout=30) == worker

    for_each(kinds, examine)


@pytest.mark.timeout(120)
def test_every_kind_through_an_actor(start, kinds):
    start(num_cpus=1, log_to_driver=False)
    actor = Failing.remote()
    process = ray.get(actor.pid.remote(), timeout=30)

    def examine(kind):
        check(kind, error_of(actor.fail.remote(kind.name)), "Failing.fail", process)
        assert ray.get(actor.pid.remote(), timeout=30) == process

    for_each([kind for kind in kinds if kind.name != "system_exit"], examine)  # that one ends the actor


def test_chain_and_notes_are_in_the_text(start):
    start(num_cpus=1)

    @ray.remote
    def chained():
        try:
            try:
                {}["first"]
            except KeyError as error:
                raise ValueError("second") from error
        except ValueError as error:
            error.add_note("noted on the way")
            raise

    text = str(error_of(chained.remote()))
    for piece in ("KeyError: 'first'", "direct cause", "ValueError: second", "noted on the way", __file__):
        assert piece in text
