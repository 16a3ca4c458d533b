"""How the user's code ends the actor that it runs in: by ``exit_actor``, or as Python programs end, by ``sys.exit``."""

from __future__ import annotations

from typing import Any, NamedTuple

from ray.runtime.process.telling import write

EXIT_ACTOR = "exit_actor() was called"
_MAX_CODE_CHARACTERS = 200
_MEMBERS: Any = BaseExceptionGroup.__dict__["exceptions"]


class ActorExit(BaseException):
    """Raised by ``exit_actor``: ends the method, then the actor."""


class Exit(NamedTuple):
    """An end that a method asks for; with a code other than 0 it is a death, not an end by plan."""

    code: int
    reason: str


def exit_of(error: BaseException) -> Exit | None:
    """What ``error``, as caught around a method, asks for; None if it is an error like others.

    An exit may be one of a group, as when a task of a TaskGroup asks for it.
    """
    pending = [error]
    while pending:
        current = pending.pop()
        kind = type(current)
        if issubclass(kind, ActorExit):
            return Exit(0, EXIT_ACTOR)
        if issubclass(kind, SystemExit):
            return _system_exit(current)
        if issubclass(kind, BaseExceptionGroup):
            pending += _MEMBERS.__get__(current)
    return None


def _system_exit(error: BaseException) -> Exit:
    code: Any = SystemExit.__dict__["code"].__get__(error)
    if code is None:
        return Exit(0, "sys.exit() was called")
    if isinstance(code, int):
        return Exit(code & 0xFF, f"sys.exit({int(code)}) was called")
    try:  # as Python: the text goes to stderr
        text = str(code)[:_MAX_CODE_CHARACTERS]
    except BaseException:
        text = f"an object of {type(code).__name__}"
    write(f"{text}\n")
    return Exit(1, f"sys.exit({text!r}) was called")
