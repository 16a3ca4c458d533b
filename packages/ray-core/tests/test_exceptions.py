"""Errors: their sentences, their builtin bases, and their way through copy and pickle."""

from __future__ import annotations

import copy
import errno
import pickle
from typing import Any

import pytest

import ray.exceptions as errors
from ray.exceptions import RayError, RayTaskError

EXAMPLES: dict[type[RayError], tuple[tuple[Any, ...], dict[str, Any]]] = {
    errors.RayError: (("anything",), {}),
    errors.RayTaskError: (("f", "Traceback…\nKeyError: 'x'", KeyError("x")), {"pid": 3, "node": "n", "attempt": 1}),
    errors.WorkerCrashedError: (("f", 12, None, 9, "it was busy", "last\nwords"), {}),
    errors.OutOfMemoryError: (("f", 12, 100, 99, "python 99 bytes"), {"stderr_tail": "last words"}),
    errors.RayActorError: (("Counter", b"\x01" * 16, "its node died"), {"cause": ValueError("x"), "pid": 4}),
    errors.TaskUnschedulableError: (("f", "is to run on the node a, which is not there"), {}),
    errors.ActorUnschedulableError: (("Counter", b"\x01" * 16, "is to run on the node a, which is not there"), {}),
    errors.TaskCancelledError: (("f", b"\x02" * 16), {}),
    errors.TaskTimeoutError: (("f", 1.5), {}),
    errors.RuntimeEnvSetupError: (("the disk has no room", "node-1"), {}),
    errors.BlockingCallError: (("ray.wait",), {"actor": "Counter"}),
    errors.BackPressureError: (("the actor's mailbox", 100), {}),
    errors.ObjectLostError: ((b"\x03" * 20, "its worker died"), {}),
    errors.OwnerDiedError: ((b"\x03" * 20,), {}),
    errors.ObjectStoreFullError: ((110, 100, 95, "it is the store of the node a"), {}),
    errors.OutOfDiskError: (("/spill", 10), {}),
    errors.ObjectExistsError: ((b"\x03" * 20,), {}),
    errors.GetTimeoutError: ((2.0, 1, 3, "Why.", 1), {}),
    errors.DeserializationError: (("the value of an object", KeyError("x")), {"object_id": b"\x03" * 20, "task": "f"}),
    errors.UnpicklableError: (("argument 'x' → <class '_thread.lock'>", "no way"), {}),
    errors.RaySystemError: (("broken",), {}),
    errors.RayConnectionError: ((), {}),
    errors.NodeDiedError: (("node-1", "its power failed"), {}),
    errors.KeyFileError: (("/k/default.json", "its mode is 0644"), {}),
    errors.ControlStoreError: (("Put", "a", "it is full"), {}),
    errors.ControlUnavailableError: (("Get", "a"), {}),
    errors.ControlTimeoutError: (("Get", "a", 1.5, "its server cannot be reached"), {}),
    errors.ControlDeniedError: (("Get", "a", "the password is wrong"), {}),
    errors.ControlFullError: (("Put", "a", "it is full"), {}),
    errors.ControlKindError: (("Get", "a", "the key holds a list"), {}),
    errors.LocalProtocolError: (("wrong state",), {}),
    errors.RemoteProtocolError: (("bad frame",), {}),
    errors.InvalidTransition: (("task", "done", "TaskStarted"), {}),
    errors.PluginError: (("broken",), {"seam": "store", "plugin": "shm"}),
    errors.PluginNotInstalledError: (("install it",), {"seam": "store", "plugin": "shm"}),
    errors.UnknownPluginError: (("did you mean",), {"seam": "store"}),
    errors.AmbiguousPluginError: (("two",), {}),
    errors.PluginContractError: (("no seal()",), {"plugin": "x"}),
    errors.PluginOptionsError: (("unknown option",), {}),
    errors.IncompatiblePluginsError: (("no notifications",), {}),
}


def _subclasses(cls: type[RayError]) -> set[type[RayError]]:
    found = {cls}
    for sub in cls.__subclasses__():
        found |= _subclasses(sub)
    return found


def _public() -> list[type[RayError]]:
    ours = {cls for cls in _subclasses(RayError) if cls.__module__ == "ray.exceptions" and "(" not in cls.__name__}
    return sorted(ours - {errors.ProtocolError}, key=lambda cls: cls.__name__)


def _make(cls: type[RayError]) -> RayError:
    args, kwargs = EXAMPLES[cls]
    return cls(*args, **kwargs)


@pytest.mark.parametrize("cls", _public(), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, *(lambda e, p=p: pickle.loads(pickle.dumps(e, p)) for p in range(2, 6))],
    ids=["copy", "deepcopy", "pickle2", "pickle3", "pickle4", "pickle5"],
)
def test_survives(cls: type[RayError], again: Any) -> None:
    error = _make(cls)
    error.add_note("a note")
    twin = again(error)
    assert type(twin) is cls
    assert str(twin) == str(error)
    assert twin.__notes__ == ["a note"]
    assert twin.__dict__.keys() == error.__dict__.keys()
    for name, value in error.__dict__.items():
        if isinstance(value, BaseException):
            assert type(getattr(twin, name)) is type(value)
        else:
            assert getattr(twin, name) == value
    assert (twin.__cause__ is None) == (error.__cause__ is None)


@pytest.mark.parametrize("cls", _public(), ids=lambda cls: cls.__name__)
def test_can_be_made_of_nothing_or_says_what_it_needs(cls: type[RayError]) -> None:
    try:
        error = cls()
    except TypeError as failure:
        assert "required positional argument" in str(failure)  # noqa: PT017
    else:
        assert isinstance(str(error), str)


def test_every_public_name_is_in_all_and_lives_in_one_place() -> None:
    for cls in _public():
        assert cls.__name__ in errors.__all__
        assert getattr(errors, cls.__name__) is cls


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("WorkerCrashedError", RuntimeError),
        ("RayActorError", RuntimeError),
        ("TaskUnschedulableError", RuntimeError),
        ("ActorUnschedulableError", RuntimeError),
        ("OutOfMemoryError", MemoryError),
        ("TaskTimeoutError", TimeoutError),
        ("GetTimeoutError", TimeoutError),
        ("ObjectStoreFullError", MemoryError),
        ("ObjectLostError", LookupError),
        ("OwnerDiedError", errors.ObjectLostError),
        ("OutOfDiskError", OSError),
        ("ObjectExistsError", ValueError),
        ("DeserializationError", ValueError),
        ("UnpicklableError", TypeError),
        ("RayConnectionError", ConnectionError),
        ("NodeDiedError", errors.RayConnectionError),
        ("BlockingCallError", RuntimeError),
        ("ControlUnavailableError", ConnectionError),
        ("ControlTimeoutError", TimeoutError),
        ("ControlTimeoutError", errors.ControlUnavailableError),
        ("ControlKindError", TypeError),
        ("ControlDeniedError", PermissionError),
        ("ControlFullError", MemoryError),
        ("PluginNotInstalledError", ImportError),
        ("UnknownPluginError", LookupError),
        ("PluginContractError", TypeError),
        ("PluginOptionsError", ValueError),
    ],
)
def test_is_also_the_builtin_one_would_catch(name: str, builtin: type) -> None:
    assert issubclass(getattr(errors, name), builtin)


def test_older_names() -> None:
    assert errors.RayTimeoutError is errors.GetTimeoutError
    assert errors.RayWorkerError is errors.WorkerCrashedError
    assert errors.RayCancellationError is errors.TaskCancelledError
    assert errors.UnreconstructableError is errors.ObjectLostError
    assert errors.RayletError is errors.RaySystemError


def test_worker_death_names_signal_or_exit_code_and_shows_stderr() -> None:
    killed = errors.WorkerCrashedError("f", 12, signal=9)
    assert "signal 9 (SIGKILL)" in str(killed)
    assert "pid 12" in str(killed)
    assert "memory" in str(killed)
    ended = errors.WorkerCrashedError("f", 12, exit_code=7)
    assert "exit code 7" in str(ended)
    as_subprocess_says = errors.WorkerCrashedError("f", 12, exit_code=-11)
    assert (as_subprocess_says.signal, as_subprocess_says.exit_code) == (11, None)
    assert "signal 11 (SIGSEGV)" in str(as_subprocess_says)
    assert "signal 250" in str(errors.WorkerCrashedError(signal=250))
    assert "not known" in str(errors.WorkerCrashedError())
    tail = "\n".join(f"line {i}" for i in range(100))
    loud = errors.WorkerCrashedError("f", 12, signal=6, stderr_tail=tail)
    assert loud.stderr_tail.splitlines() == [f"line {i}" for i in range(80, 100)]
    assert str(loud).endswith("line 99")
    assert "line 79" not in str(loud)


def test_actor_death_names_class_id_and_cause() -> None:
    cause = RayTaskError("Counter.__init__", "Traceback…\nValueError: bad start", ValueError("bad start"))
    error = errors.RayActorError("Counter", b"\xab" * 16, cause=cause, method="add")
    text = str(error)
    assert "Counter" in text
    assert "ab" * 16 in text
    assert "ValueError: bad start" in text
    assert "add()" in text
    assert "max_restarts" not in text
    assert error.__cause__ is cause
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again.__cause__, RayTaskError)
    killed = errors.RayActorError("Counter", signal=9, stderr_tail="bye")
    assert "signal 9 (SIGKILL)" in str(killed)
    assert "max_restarts" in str(killed)
    assert str(killed).endswith("bye")
    assert "max_restarts" not in str(errors.RayActorError("Counter", reason="ray.kill() was called"))


def test_out_of_disk_is_enospc() -> None:
    assert errors.OutOfDiskError("/spill", 10).errno == errno.ENOSPC
    assert pickle.loads(pickle.dumps(errors.OutOfDiskError("/spill", 10))).errno == errno.ENOSPC


def test_protocol_error_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        errors.ProtocolError("x")


def test_task_error_made_by_hand() -> None:
    error = RayTaskError("f", "Traceback…\nKeyError: 'x'", KeyError("x"), pid=3, attempt=2)
    assert str(error).startswith("KeyError: 'x'\n  in task f (pid=3, attempt=2)")
    assert error.cause_type == "KeyError"
    assert isinstance(error.__cause__, KeyError)
    assert error.args == ("KeyError: 'x'",)
