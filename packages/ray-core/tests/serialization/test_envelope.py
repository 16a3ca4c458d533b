"""Envelopes: what comes back as itself, what is damaged, what hostile types do."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
import weakref
from typing import Any

import msgspec
import pytest

from ray.exceptions import (
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serialization import (
    failed_start,
    failed_start_envelope,
    make_envelope,
    open_envelope,
    read_envelope,
    register_reducer,
    same_for,
)
from ray.serialization.guard import run_guarded


def _made(exc: BaseException, *, function: str = "f", kind: str = "user") -> bytes:
    try:
        raise exc
    except BaseException as caught:
        return make_envelope(caught, function=function, task_id=b"t" * 16, attempt=0, pid=1, node="n", kind=kind)


def _opened(exc: BaseException, **options: Any) -> Any:
    return open_envelope(_made(exc, **options))


def test_raising_it_shows_cause_and_remote_traceback() -> None:
    with pytest.raises(KeyError) as caught:
        raise _opened(KeyError("x"))
    assert isinstance(caught.value, RayTaskError)
    assert caught.value.args == ("x",)
    assert str(caught.value).startswith("KeyError: 'x'\n  in task f (pid=1, node=n, task=")
    assert "test_envelope.py" in str(caught.value)
    assert type(caught.value.__cause__) is KeyError
    assert type(caught.value).__name__ == "RayTaskError(KeyError)"
    assert type(caught.value).__module__ == "ray.exceptions"


def test_system_errors_come_back_as_themselves() -> None:
    error = _opened(WorkerCrashedError("f", 5, signal=9), kind="system")
    assert type(error) is WorkerCrashedError
    assert (error.pid, error.signal) == (5, 9)
    assert read_envelope(_made(WorkerCrashedError("f", 5, signal=9), kind="system")).signal == 9
    actor = _opened(RayActorError("A", b"a" * 16, cause=_opened(ValueError("x"))), kind="system")
    assert type(actor) is RayActorError
    assert isinstance(actor.__cause__, ValueError)
    assert isinstance(actor.__cause__, RayTaskError)


def test_system_error_that_a_task_lets_pass_is_itself_with_a_note() -> None:
    error = _opened(GetTimeoutError(1.0), function="outer")
    assert type(error) is GetTimeoutError
    assert "passed on by task outer (pid=1" in error.__notes__[0]
    blob = _made(TaskCancelledError("g"))
    for _ in range(100):
        blob = _made(open_envelope(blob))
    assert len(open_envelope(blob).__notes__) <= 16


def test_errors_own_subclass_of_ours_comes_back_as_itself() -> None:
    class Mine(RayError):
        pass

    assert type(_opened(Mine("x"))) is Mine


@pytest.mark.parametrize("blob", [b"", b"\x00", b"garbage", b"\x80\x05N.", b"\xdc\xff\xff", bytes(1000)])
def test_damaged_envelope_is_a_task_error(blob: bytes) -> None:
    error = open_envelope(blob)
    assert type(error) in (RayTaskError, RayError)
    assert "damaged" in str(error)


FACTS: dict[str, Any] = {"actor_class": "A", "actor_id": b"1" * 16, "reason": "its __init__ raised", "method": "m"}


class WithReason(Exception):
    def __init__(self, reason: str, *, code: int) -> None:
        super().__init__(reason)
        self.code = code


@pytest.mark.parametrize(
    "exc", [KeyError("x"), WithReason("no", code=3), Exception("plain"), RayError("of ours")], ids=repr
)
def test_calls_of_an_actor_whose_start_failed(exc: Exception) -> None:
    """The envelope that is made without opening the other one says the same as the error that the other way makes."""
    inner = _made(exc, kind="system" if isinstance(exc, RayError) else "user")
    blob = same_for(failed_start_envelope(FACTS, inner, node="n"), function="A.m", task_id=b"2" * 16, attempt=1)
    error, known = open_envelope(blob), failed_start(FACTS, inner)
    assert type(error).__name__ == type(known).__name__
    assert isinstance(error, RayActorError)
    assert isinstance(error, type(exc))
    assert str(error) == str(known)
    assert vars(error).keys() == vars(known).keys()
    facts, others = read_envelope(blob), read_envelope(_made(known, kind="system"))
    assert (facts.function, facts.task_id, facts.attempt, facts.node) == ("A.m", b"2" * 16, 1, "n")
    assert (facts.kind, facts.summary, facts.message) == (others.kind, others.summary, others.message)


@pytest.mark.parametrize("blob", [b"", b"garbage", bytes(1000)])
def test_calls_of_an_actor_whose_failure_is_damaged(blob: bytes) -> None:
    error = open_envelope(failed_start_envelope(FACTS, blob, node="n"))
    assert isinstance(error, RayActorError)
    assert "damaged" in str(error)


@pytest.mark.parametrize("field", ["cause", "types"])
def test_pickles_that_do_not_open_leave_the_facts(field: str) -> None:
    envelope = read_envelope(_made(KeyError("x")))
    junk: Any = b"\x80\x05junk" if field == "cause" else [b"\x80\x05junk", b""]
    broken = msgspec.structs.replace(envelope, **{"cause": b"", field: junk})
    error = open_envelope(msgspec.msgpack.encode(broken))
    assert isinstance(error, KeyError)
    assert isinstance(error, RayTaskError)
    assert error.__cause__ is None
    assert "KeyError: 'x'" in str(error)


def test_local_class_comes_home_as_the_same_class_and_unchanged() -> None:
    class Local(ValueError):
        def shout(self) -> str:
            return f"{self}!"

    before = Local.shout
    error = _opened(Local("x"))
    assert isinstance(error, Local)
    assert type(error.__cause__) is Local
    assert Local.shout is before


def test_class_for_the_error_is_made_once_and_not_announced_to_the_original() -> None:
    class Announcing(ValueError):
        heard: list[type] = []

        def __init_subclass__(cls) -> None:
            Announcing.heard.append(cls)

    first, second = _opened(Announcing("x")), _opened(Announcing("y"))
    assert type(first) is type(second)
    assert Announcing.heard == []


def test_group_of_user_errors_and_chain_in_text() -> None:
    try:
        try:
            raise ValueError("deep")
        except ValueError as inner:
            raise ExceptionGroup("many", [TypeError("one"), KeyError("two")]) from inner
    except ExceptionGroup as group:
        text = str(open_envelope(make_envelope(group, function="f", task_id=b"", attempt=0, pid=1, node="")))
    assert "ValueError: deep" in text
    assert "direct cause" in text
    assert "  | TypeError: one" in text


def test_references_inside_an_error_do_not_travel() -> None:
    class Ref:
        def __repr__(self) -> str:
            return "Ref(abc)"

    def reduce_ref(ref: Ref, refs: list[Any]) -> Any:
        refs.append(ref)
        return str, ("resolved",)

    register_reducer(Ref, reduce_ref)
    error = ValueError("holds", Ref())
    assert _opened(error).args == ("holds", "Ref(abc)")


def test_surrogates_in_names() -> None:
    error = ValueError("\ud800")
    blob = make_envelope(error, function="f\ud800", task_id=b"", attempt=0, pid=1, node="n\ud800")
    assert isinstance(open_envelope(blob), ValueError)


def test_runtime_frames_are_hidden_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def inside() -> None:
        raise ValueError("x")

    def through_the_package() -> bytes:
        code = compile(
            "def call(f):\n    f()\n", __file__.replace(__file__, sys.modules["ray.exceptions"].__file__), "exec"
        )
        space: dict[str, Any] = {}
        exec(code, space)
        try:
            space["call"](inside)
        except ValueError as caught:
            caught = caught.with_traceback(caught.__traceback__.tb_next)
            return make_envelope(caught, function="f", task_id=b"", attempt=0, pid=1, node="")
        raise AssertionError

    assert "in call" not in str(open_envelope(through_the_package()))
    assert "in inside" in str(open_envelope(through_the_package()))
    monkeypatch.setenv("RAY_CORE_FULL_TRACEBACK", "1")
    assert "in call" in str(open_envelope(through_the_package()))


def test_error_keeps_nothing_of_the_frame_alive() -> None:
    class Big:
        pass

    big = Big()
    watched = weakref.ref(big)

    def fail(held: Big) -> None:
        raise ValueError("x")

    try:
        fail(big)
    except ValueError as caught:
        blob = make_envelope(caught, function="f", task_id=b"", attempt=0, pid=1, node="")
    del big
    gc.collect()
    assert watched() is None
    assert isinstance(open_envelope(blob), ValueError)


def test_guard_ends_loops_and_leaves_no_thread() -> None:
    def loop() -> int:
        while True:
            pass

    before = threading.active_count()
    assert run_guarded(loop) is None
    assert threading.active_count() == before
    assert run_guarded(lambda: 5) == 5
    assert run_guarded(lambda: sys.exit(1)) is None


def test_pickled_error_needs_only_this_package() -> None:
    error = _opened(KeyError("x"))
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, KeyError)
    assert again.function_name == "f"
