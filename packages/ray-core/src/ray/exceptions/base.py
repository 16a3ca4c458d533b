"""The root of all errors, and the texts that several of them share."""

from __future__ import annotations

import contextlib
import os
import signal as _signal
from types import TracebackType
from typing import Any, TypeGuard, TypeVar

from ray._paths import OWN_CODE

#: Lines of a dead worker's stderr that an error shows.
STDERR_TAIL_LINES = 20
#: The bit of ``type.__flags__`` that tells classes made by a class statement from built-in ones.
E = TypeVar("E", bound=BaseException)
_HEAP_TYPE = 1 << 9
_TRACEBACK: Any = BaseException.__dict__["__traceback__"]
_CAUSE: Any = BaseException.__dict__["__cause__"]


def _rebuild(cls: type[RayError], args: tuple[Any, ...], state: dict[str, Any]) -> RayError:
    """Undo ``RayError.__reduce_ex__`` without running a constructor of ours."""
    base = layout_base(cls)
    error: RayError = base.__new__(cls, *args)
    base.__init__(error, *args)
    error.__dict__.update(state)
    cause = state.get("cause")
    if isinstance(cause, BaseException):
        error.__cause__ = cause
    return error


class RayError(Exception):
    """Base of all errors of this system."""

    #: Not that of the user's class which an error may be of as well.
    __repr__ = BaseException.__repr__

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def exit_text(exit_code: int | None = None, signal: int | None = None) -> str:
    """How a process ended: ``signal 9 (SIGKILL)``, ``exit code 7`` or that it is not known."""
    if signal is not None:
        try:
            return f"signal {signal} ({_signal.Signals(signal).name})"
        except ValueError:
            return f"signal {signal}"
    return "the cause is not known" if exit_code is None else f"exit code {exit_code}"


def qualified_name(cls: type) -> str:
    """``module.Class``, without the module for builtins."""
    name: str = getattr(cls, "__qualname__", "") or repr(cls)
    module = getattr(cls, "__module__", None)
    return name if module in (None, "builtins") else f"{module}.{name}"


def printable(text: str) -> str:
    """``text`` as messages can hold it: lone surrogates, which UTF-8 cannot encode, become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def last_lines(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-STDERR_TAIL_LINES:])


def stderr_block(tail: str) -> str:
    return f"\nLast lines of its process's stderr, of earlier calls too:\n{tail}" if tail else ""


_TIMER = (
    "A timer of the process ended it, such as signal.alarm() sets: give the signal a handler first, or limit the call "
    "with timeout_s=."
)
#: What is known of a signal that a process owes to what it does, and not to others.
_OF_ITS_OWN: dict[int | None, str] = {
    _signal.SIGALRM: _TIMER,
    _signal.SIGVTALRM: _TIMER,
    _signal.SIGPROF: _TIMER,
    _signal.SIGXCPU: "It used more processor time than a process may (ulimit -t); one runs many calls, one by one.",
}


def own_signal(signal: int | None) -> str:
    """A sentence about a signal of that kind, with a space before it, or nothing."""
    return f" {_OF_ITS_OWN[signal]}" if signal in _OF_ITS_OWN else ""


def exit_advice(exit_code: int | None, signal: int | None) -> str:
    if signal == _signal.SIGKILL:
        return "Something killed it, often the kernel when memory ran out: look at dmesg, or run fewer tasks at a time."
    if signal in (_signal.SIGSEGV, _signal.SIGABRT, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL):
        return "Native code crashed: the stack is in its stderr."
    if signal == _signal.SIGTERM:
        return "Something asked it to end; max_retries= lets its task run again."
    if signal in _OF_ITS_OWN:
        return _OF_ITS_OWN[signal]
    if exit_code is not None:
        return "Code of the task, or a library, ended the process: raise an exception or return instead."
    sent = "It was sent that signal, and had no handler for it. " if signal is not None else ""
    return f"{sent}With max_retries= its task is run again."


def layout_base(cls: Any) -> Any:
    """The built-in class whose ``__new__`` makes instances of ``cls``; with several bases not always the first one."""
    while cls.__flags__ & _HEAP_TYPE:
        cls = cls.__base__
    return cls


def notes_of(error: BaseException) -> list[Any]:
    """Its notes; none where the program has put there what Python does not."""
    notes = getattr(error, "__notes__", None)
    return list(notes) if isinstance(notes, list) else []


def add_note(error: BaseException, note: str) -> None:
    """Add a note, unless the program has put something there that takes none."""
    if isinstance(getattr(error, "__notes__", []), list):
        error.add_note(note)


def note_handler(error: BaseException) -> None:
    """A signal handler of the program has raised it: no code on its way out may take it for the failure of its own."""
    with contextlib.suppress(Exception):  # some take no attributes
        error._ray_handler = True  # type: ignore[attr-defined]


def comes_from_handler(error: BaseException) -> bool:
    """Whether ``note_handler`` was told of it."""
    try:
        return getattr(error, "_ray_handler", False) is True
    except Exception:  # code of the user's: no handler has marked such an error
        return False


def is_a(error: BaseException, kinds: type[E] | tuple[type[E], ...]) -> TypeGuard[E]:
    """``isinstance``, whatever the error's class has made of ``__class__``: to read that may run code of the user's."""
    return issubclass(type(error), kinds)


def traceback_of(error: BaseException) -> TracebackType | None:
    """Its ``__traceback__``, whatever its class has made of that name."""
    found: TracebackType | None = _TRACEBACK.__get__(error)
    return found


def cause_of(error: BaseException) -> BaseException | None:
    """Its ``__cause__``, whatever its class has made of that name."""
    found: BaseException | None = _CAUSE.__get__(error)
    return found


def cut_frames(error: BaseException) -> None:
    """Leave out the frames so far: for public calls, which then say ``raise``, and do not show either.

    What went wrong is in the error, with the remote traceback; how the call works inside only hides it. What it has
    called of the program, such as the handler of a signal, stays. With ``RAY_CORE_FULL_TRACEBACK=1`` in the
    environment all frames do.
    """
    if os.environ.get("RAY_CORE_FULL_TRACEBACK") != "1":
        kept = frame = traceback_of(error)
        while frame is not None:
            if frame.tb_frame.f_code.co_filename.startswith(OWN_CODE):
                kept = frame.tb_next
            frame = frame.tb_next
        _TRACEBACK.__set__(error, kept)


def cut_wait(error: BaseException) -> None:
    """The same for what may come out of a wait, but leave what nobody expects as it is."""
    if is_a(error, (RayError, KeyboardInterrupt)) or comes_from_handler(error):
        cut_frames(error)
