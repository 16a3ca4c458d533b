"""How a failure travels: facts and text that always open, and the original exception if it can come along."""

from __future__ import annotations

import contextlib
from pickle import loads
from typing import Any

import msgspec

from ray.exceptions import RayError, RayTaskError, UnpicklableError, qualified_name
from ray.exceptions.base import add_note, is_a, notes_of, printable
from ray.exceptions.dual import DualError
from ray.serialization.carry import args_of, builtin_base, is_ours, pack_exception, pack_types
from ray.serialization.dual import steers_interpreter, task_error
from ray.serialization.missing import explain_missing
from ray.serialization.render import message_of, place_of, render, render_frames, shorten, summary_of

USER = "user"
#: Errors of the system: they come back as themselves.
SYSTEM = "system"
#: The same, but wanted by their callers: they are told where a caller asks.
ORDERLY = "orderly"
_MAX_VIA = 16
_MAX_NOTES = 16
#: What numpy, Cython and Python say of an attempt to change memory that is shared with others.
_READ_ONLY = ("destination is read-only", "array is read-only", "WRITEABLE flag to True", "modify read-only memory")
_READ_ONLY_NOTE = (
    "Arguments, and what ray.get returns, may be shared with others and are read-only: change a copy, such as "
    "array.copy(), or get the value with ray.get(ref, copy=True)."
)


class Envelope(msgspec.Struct, array_like=True, frozen=True):
    """A failure as bytes. Everything but ``types`` and ``cause`` may be read by processes that never unpickle."""

    version: int = 1
    kind: str = USER
    cause_type: str = ""
    builtin: str = ""
    """Name of the built-in exception class that the type descends from."""
    summary: str = ""
    message: str = ""
    traceback: str = ""
    function: str = ""
    task_id: bytes = b""
    attempt: int = 0
    pid: int = 0
    node: str = ""
    exit_code: int | None = None
    signal: int | None = None
    via: tuple[str, ...] = ()
    """Tasks that let the error pass, first to last."""
    types: list[bytes] = []
    """Pickles of the type and its bases, nearest first."""
    cause: bytes = b""
    """Pickle of the exception; empty if it cannot travel."""


encode_envelope = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Envelope).decode


def make_envelope(
    exc: BaseException, *, function: str, task_id: bytes, attempt: int, pid: int, node: str, kind: str = USER
) -> bytes:
    """Pack what a task raised. Never raises, whatever the exception's own code does.

    An error of an earlier task that only passes through keeps its origin; ``function`` is noted as a hop. Errors of
    the system, from ``kind`` or by class, come back as themselves.

    Args:
        exc: as caught, with its traceback.
        function: name of the task's function or method.
        task_id: 16 bytes.
        attempt: from 0.
        pid: of the process that ran it.
        node: name or id in hex of its node.
        kind: "user", "system" or "orderly".
    """
    function, node = printable(function), printable(node)
    try:
        return encode_envelope(_pack(exc, function, task_id, attempt, pid, node, kind))
    except BaseException as failure:  # The last resort: only names, made of nothing that could fail.
        name = type.__getattribute__(type(exc), "__name__")
        name = printable(name)
        text = f"{name} (its own code raised {type(failure).__name__} where it was asked for more)"
        frames = text
        with contextlib.suppress(Exception):
            frames = printable(render_frames(exc, text))
        return encode_envelope(
            Envelope(
                kind=USER, cause_type=name, summary=text, message=text, traceback=frames, function=function,
                task_id=task_id, attempt=attempt, pid=pid, node=node,
            )
        )  # fmt: skip


def same_for(blob: bytes, *, function: str, task_id: bytes, attempt: int) -> bytes:
    """The envelope of another task with the same failure; arguments as of ``make_envelope``."""
    known = _decode(blob)
    return encode_envelope(
        msgspec.structs.replace(known, function=printable(function), task_id=task_id, attempt=attempt)
    )


def open_envelope(blob: bytes | memoryview) -> BaseException:
    """The exception to raise, a fresh object at each call. Never raises (but lets Ctrl-C through).

    A task's failure is an instance of RayTaskError and of the original type, as far as that type can be had here; its
    ``__cause__`` is the original exception.
    """
    envelope = read_any_envelope(blob)
    cause = _load_exception(envelope.cause)
    if envelope.kind in (SYSTEM, ORDERLY) and cause is not None:
        return cause
    kind = type(cause) if cause is not None else _find_type(envelope)
    facts = {
        "function_name": envelope.function,
        "traceback_str": envelope.traceback,
        "cause": cause,
        "cause_type": envelope.cause_type,
        "summary": envelope.summary,
        "task_id": envelope.task_id,
        "attempt": envelope.attempt,
        "pid": envelope.pid,
        "node": envelope.node,
        "via": envelope.via,
    }
    return task_error(facts, kind, (open_envelope, (bytes(blob),)))


def read_envelope(blob: bytes | memoryview) -> Envelope:
    """The facts, without unpickling anything.

    Raises:
        msgspec.DecodeError: the envelope is damaged.
    """
    return _decode(blob)


def read_any_envelope(blob: bytes | memoryview) -> Envelope:
    """The same of what others may have damaged: then the facts say that. Never raises."""
    try:
        return _decode(blob)
    except Exception as failure:
        text = f"the record of a task's failure is damaged: {failure}"
        return Envelope(cause_type=qualified_name(RayTaskError), function="(unknown)", summary=text, message=text)


def _pack(exc: BaseException, function: str, task_id: bytes, attempt: int, pid: int, node: str, kind: str) -> Envelope:
    if is_a(exc, RayTaskError) and exc._origin is not None:
        passed = _decode(exc._origin[1][0])
        return msgspec.structs.replace(passed, via=_with_hop(passed.via, _hop(exc, function, pid)))
    if is_a(exc, RayError) and kind == USER:
        _note_hop(exc, _hop(exc, function, pid))
        kind = SYSTEM
    cls = type(exc)
    if cls in (ValueError, TypeError):
        _explain_read_only(exc)
    elif type(exc) is ModuleNotFoundError:
        explain_missing(exc)
    base = builtin_base(cls)
    cause = pack_exception(exc)
    # The class of a ``DualError`` is made anew.
    is_whole = is_a(exc, DualError) or (bool(cause) and is_ours(cls))
    exit_code, signal = None, None
    if is_a(exc, RayError):
        exit_code, signal = getattr(exc, "exit_code", None), getattr(exc, "signal", None)
    return Envelope(
        kind=kind,
        cause_type=printable(shorten(qualified_name(cls), 1000)),
        builtin=base.__name__ if base.__module__ == "builtins" else "",
        summary=printable(summary_of(exc)),
        message=printable(message_of(exc)),
        traceback=printable(render(exc)),
        function=function,
        task_id=task_id,
        attempt=attempt,
        pid=pid,
        node=node,
        exit_code=exit_code if type(exit_code) is int and kind != USER else None,
        signal=signal if type(signal) is int and kind != USER else None,
        types=[] if is_whole else pack_types(cls),
        cause=cause,
    )


def _explain_read_only(exc: BaseException) -> None:
    args = args_of(exc)
    said = args[0] if args else None
    is_read_only = type(said) is str and any(phrase in said for phrase in _READ_ONLY)
    if is_read_only and _READ_ONLY_NOTE not in notes_of(exc):
        add_note(exc, _READ_ONLY_NOTE)


def _hop(exc: BaseException, function: str, pid: int) -> str:
    place = place_of(exc)
    return printable(f"task {function} (pid={pid}{f', {place}' if place else ''})")


def _with_hop(via: tuple[str, ...], hop: str) -> tuple[str, ...]:
    return (*via, hop) if len(via) < _MAX_VIA else (*via[: _MAX_VIA // 2], *via[_MAX_VIA // 2 + 1 :], hop)


def _note_hop(exc: RayError, hop: str) -> None:
    notes = notes_of(exc)
    if len(notes) < _MAX_NOTES:
        begins = isinstance(exc, UnpicklableError) and not notes
        add_note(exc, f"{'raised for what was sent by' if begins else 'passed on by'} {hop}")


def _load_exception(blob: bytes) -> BaseException | None:
    value = _load(blob)
    return value if isinstance(value, BaseException) else None


def _find_type(envelope: Envelope) -> type[BaseException] | None:
    """The original type, else the nearest base that can be had here."""
    for blob in envelope.types:
        value = _load(blob)
        if isinstance(value, type) and issubclass(value, BaseException):
            return None if steers_interpreter(value) else value
    import builtins

    value = getattr(builtins, envelope.builtin, None)
    return value if isinstance(value, type) and issubclass(value, BaseException) else None


def _load(blob: bytes) -> Any:
    """What a pickle holds, or None if it does not open here: a class may be missing, or its code may fail."""
    if not blob:
        return None
    try:
        return loads(blob)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None
