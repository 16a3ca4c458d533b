"""Every kind of exception through make_envelope in one process and open_envelope in another."""

from __future__ import annotations

import copy
import importlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ray.exceptions import RayTaskError
from ray.serialization import make_envelope, open_envelope, read_envelope

FAULTS = Path(__file__).parents[4] / "tests" / "faults"

MAKER = """
import pickle, sys
import exception_kinds
from ray.serialization import make_envelope
made = {}
for kind in exception_kinds.KINDS:
    try:
        kind.run()
    except BaseException as error:
        made[kind.name] = make_envelope(
            error, function=kind.name, task_id=b"0123456789abcdef", attempt=1, pid=42, node="here"
        )
sys.stdout.buffer.write(pickle.dumps(made))
"""


def _kinds() -> Any:
    if str(FAULTS) not in sys.path:
        sys.path.insert(0, str(FAULTS))
    return importlib.import_module("exception_kinds")


KINDS = _kinds().KINDS
NAMES = [kind.name for kind in KINDS]


@pytest.fixture(scope="module")
def envelopes() -> dict[str, bytes]:
    """Made by another interpreter."""
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [str(FAULTS), os.environ.get("PYTHONPATH")])))
    run = subprocess.run([sys.executable, "-c", MAKER], env=env, capture_output=True, timeout=50, check=False)
    assert run.returncode == 0, run.stderr.decode()
    made: dict[str, bytes] = pickle.loads(run.stdout)
    return made


def _check(kind: Any, error: BaseException) -> None:
    assert isinstance(error, RayTaskError)
    if kind.expected is not None:
        assert isinstance(error, kind.expected)
    else:
        assert type(error) is RayTaskError
    text = str(error)
    assert kind.text in text
    assert len(text) < 150_000
    assert f"task {kind.name} (pid=42, node=here, task={b'0123456789abcdef'.hex()}, attempt=1)" in text
    assert "exception_kinds.py" in text
    assert "line " in text
    assert (error.function_name, error.pid, error.node, error.attempt) == (kind.name, 42, "here", 1)
    assert error.task_id == b"0123456789abcdef"
    if kind.cause is None:
        assert error.__cause__ is None
    else:
        assert isinstance(error.__cause__, kind.cause)
        assert error.cause is error.__cause__
    assert error
    assert error == error
    assert {error}
    assert kind.name in repr(error)
    assert kind.text in f"{error}"


def test_there_are_enough_kinds() -> None:
    assert len(KINDS) >= 40
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_kind_crosses(kind: Any, envelopes: dict[str, bytes]) -> None:
    error = open_envelope(envelopes[kind.name])
    _check(kind, error)
    assert open_envelope(envelopes[kind.name]) is not error


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_arrived_error_survives_copy_and_pickle(kind: Any, envelopes: dict[str, bytes]) -> None:
    error = open_envelope(envelopes[kind.name])
    error.add_note("seen by the caller")
    for again in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        _check(kind, again)
        assert type(again) is type(error)
        assert "seen by the caller" in again.__notes__


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_second_task_passes_it_on(kind: Any, envelopes: dict[str, bytes]) -> None:
    blob = envelopes[kind.name]
    for hop in range(30):
        try:
            raise open_envelope(blob)
        except RayTaskError as caught:
            blob = make_envelope(caught, function=f"hop{hop}", task_id=b"t" * 16, attempt=0, pid=hop, node="there")
    error = open_envelope(blob)
    _check(kind, error)
    assert "passed on by task hop0 (pid=0, " in str(error)
    assert "passed on by task hop29 (pid=29, " in str(error)
    assert len(error.via) == 16
    assert len(blob) < len(envelopes[kind.name]) + 10_000


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_facts_can_be_read_without_unpickling(kind: Any, envelopes: dict[str, bytes]) -> None:
    envelope = read_envelope(envelopes[kind.name])
    assert envelope.function == kind.name
    assert envelope.summary
    assert len(envelopes[kind.name]) < 3_000_000


def test_contents_of_the_original(envelopes: dict[str, bytes]) -> None:
    kinds = _kinds()

    def opened(name: str) -> Any:
        return open_envelope(envelopes[name])

    assert opened("value_error").args == ("no good",)
    assert opened("keyword_only_init").reason == "by keyword"
    assert opened("rewording_init").code == 5
    assert opened("rewording_init").__cause__.code == 5
    assert opened("odd_new").extra == "extra"
    assert opened("slots").code == 9
    assert opened("file_not_found").errno == 2
    assert opened("file_not_found").filename == "/no/such/file"
    assert opened("own_os_error").errno == 111
    assert opened("own_os_error").host == "there"
    assert opened("http_error").code == 503
    assert opened("unicode_decode").object == b"\xff"
    assert opened("syntax_error").filename == "program.py"
    assert opened("import_error").name == "no_such_module"
    assert opened("system_exit").__cause__.code == 3
    assert opened("stop_iteration").__cause__.value == 7
    assert opened("called_process").returncode == 3
    assert opened("json_decode").pos == 0
    assert opened("with_notes").__notes__ == ["a note that helps"]
    assert [type(e) for e in opened("exception_group").exceptions] == [ValueError, TypeError]
    odd = opened("group_of_odd_members").exceptions
    assert [type(e) for e in odd] == [kinds.KeywordOnlyError, kinds.LockedError, kinds.ReduceRaises]
    assert odd[0].reason == "in a group"
    assert "lock" in opened("unpicklable_attribute").lock
    assert "generator" in opened("unpicklable_argument").args[1]
    assert opened("colliding_names").node == "here"
    assert opened("colliding_names").__cause__.node == "mine"
    assert opened("local_class").__cause__.args == ("inside a function",)
    assert type(opened("class_missing_elsewhere")).__name__ == "RayTaskError(KeyError)"
    assert "only_in_the_worker.Missing" in str(opened("class_missing_elsewhere"))
    assert "a note that helps" in str(opened("with_notes"))
    assert "link 0" in str(opened("chained_100_deep"))


def test_group_can_be_split(envelopes: dict[str, bytes]) -> None:
    caught = []
    try:
        raise open_envelope(envelopes["exception_group"])
    except* ValueError as group:
        caught += group.exceptions
    except* TypeError as group:
        caught += group.exceptions
    assert [str(error) for error in caught] == ["first member", "second member"]
