"""What to raise of a value that could not be unpickled, or is lost: which it is, and where it comes from."""

from __future__ import annotations

from typing import NoReturn

from ray.exceptions import ObjectLostError, RayError
from ray.exceptions.base import comes_from_handler, cut_frames, is_a, traceback_of
from ray.headroom import TAKING, lacks
from ray.protocol.references import ObjectEntry
from ray.serialization import open_envelope, unreadable

FINALISED = "the garbage collector has finalised its last reference, together with the object whose destructor asks"


def raise_unreadable(error: BaseException, what: str, object_id: bytes = b"", task: str = "") -> NoReturn:
    """Raise a DeserializationError, or ``error`` if it is one of ours, or is not about what was unpickled.

    A KeyboardInterrupt is taken for Ctrl-C, wherever it comes from.

    Args:
        error: what unpickling has raised.
        what: what was unpickled, as the subject of a sentence.
        object_id: where it is an object.
        task: the name of the task that made it, or empty.
    """
    __tracebackhide__ = True
    if is_a(error, (RayError, KeyboardInterrupt)) or comes_from_handler(error):
        raise error
    if is_a(error, Exception):
        cause = error
    else:  # it must end no program, loop or generator that asks for the value
        cause = RuntimeError(f"it raised {error!r}").with_traceback(traceback_of(error))
    unread = unreadable(cause, what, object_id=object_id, task=task)
    cut_frames(cause)
    raise unread from cause


def raise_unreadable_value(error: BaseException, entry: ObjectEntry) -> NoReturn:
    """The same for the value of a complete entry."""
    __tracebackhide__ = True
    if is_a(error, RecursionError) and lacks(TAKING):  # that is not the value's fault
        raise error
    if entry.freed:
        raise ObjectLostError(entry.id, FINALISED) from None
    task = entry.task if isinstance(entry.task, str) else ""
    raise_unreadable(error, value_of_ref(entry.id), entry.id, task)


def error_of(entry: ObjectEntry) -> BaseException:
    """What to raise for an object that is a failure."""
    envelope = entry.value
    return ObjectLostError(entry.id, FINALISED) if envelope is None else open_envelope(envelope)


def value_of_ref(object_id: bytes) -> str:
    """How messages name an object's value."""
    return f"the value of ObjectRef({object_id.hex()})"
