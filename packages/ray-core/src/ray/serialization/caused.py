"""Errors of ours with the user's exception behind them: they are of its type, too, and survive pickling."""

from __future__ import annotations

import os
import pickle
from typing import Any, TypeVar

from ray.exceptions import DeserializationError, RayActorError, RayError, RayTaskError, qualified_name
from ray.exceptions.base import is_a, printable
from ray.serialization.dual import of_both_types
from ray.serialization.envelope import (
    SYSTEM,
    USER,
    Envelope,
    encode_envelope,
    make_envelope,
    open_envelope,
    read_any_envelope,
)
from ray.serialization.render import message_of, summary_of, summary_text

D = TypeVar("D", RayActorError, DeserializationError)


def failed_start(facts: dict[str, Any], envelope: bytes) -> RayActorError:
    """What calls to an actor raise whose ``__init__`` has raised.

    Args:
        facts: keyword arguments of RayActorError.
        envelope: what became of ``__init__``.
    """
    return caused(RayActorError, facts, envelope)


def failed_start_envelope(facts: dict[str, Any], envelope: bytes, *, node: str) -> bytes:
    """``failed_start`` as an envelope of a call, for callers that must not run code of the user's: nothing is opened.

    Args:
        facts: as there.
        envelope: as there.
        node: name or id in hex of the node.
    """
    inner = read_any_envelope(envelope)
    text = inner.traceback if inner.kind == USER else inner.message
    plain = RayActorError(**facts, summary=inner.summary, traceback_str=text)
    cause_type = qualified_name(RayActorError)
    if inner.cause_type not in ("", "BaseException", "Exception"):
        cause_type += f"({inner.cause_type.rpartition('.')[2]})"
    message = message_of(plain)
    return encode_envelope(
        Envelope(
            kind=SYSTEM,
            cause_type=cause_type,
            builtin=inner.builtin,
            summary=summary_text(cause_type, message),
            message=message,
            traceback=f"{cause_type}: {message}",
            pid=plain.pid or os.getpid(),
            node=printable(node),
            exit_code=plain.exit_code,
            signal=plain.signal,
            cause=pickle.dumps(_Caused(RayActorError, facts, envelope)),
        )
    )


class _Caused:
    """Becomes what ``caused`` makes, where it is unpickled."""

    def __init__(self, *args: Any) -> None:
        self._args = args

    def __reduce__(self) -> tuple[Any, ...]:
        return caused, self._args


def unreadable(error: Exception, what: str, *, object_id: bytes = b"", task: str = "") -> RayError:
    """What to raise where unpickling has raised ``error``; an error of ours is that itself.

    Args:
        error: as caught.
        what: what could not be unpickled, as the subject of a sentence.
        object_id: where it is an object.
        task: the name of the task that made it, or empty.
    """
    if is_a(error, RayError):
        return error
    envelope = make_envelope(error, function=what, task_id=b"", attempt=0, pid=os.getpid(), node="")
    made = caused(
        DeserializationError, {"what": what, "object_id": object_id, "task": task, "pid": os.getpid()}, envelope
    )
    made.__dict__["cause"] = made.__cause__ = error
    return made


def caused(base: type[D], facts: dict[str, Any], envelope: bytes) -> D:
    """A fresh error to raise: of type ``base`` and, as far as that can be had here, of the type of its cause.

    Args:
        base: takes ``facts``, ``cause``, ``summary`` and ``traceback_str`` as keywords.
        facts: its other keywords.
        envelope: of the exception behind it.
    """
    inner = open_envelope(envelope)
    kind: type[BaseException] | None
    cause: BaseException | None
    if isinstance(inner, RayTaskError):
        cause, summary, text = inner.cause, inner.summary, inner.traceback_str
        kind = next((type_ for type_ in type(inner).__bases__ if not issubclass(RayTaskError, type_)), None)
    else:
        cause, kind, summary, text = inner, type(inner), summary_of(inner), message_of(inner)
    error = base(**facts, cause=cause, summary=summary, traceback_str=text)
    return of_both_types(error, kind, (caused, (base, facts, envelope)))
