"""Where what a signal handler raises leaves nothing half done.

An exception that comes to the main thread inside this package's own code would leave torn bookkeeping behind. It comes
once the thread is in the user's code, or in one of the blocking waits, which can be left at any point.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import CodeType, FrameType

from ray._paths import OWN_CODE
from ray.exceptions.base import cut_frames
from ray.runtime.process.waiting import Waiter
from ray.serialization import pickling

#: Files and directories of code in which nothing may be torn: this package's, and the plugins'.
_ours: tuple[str, ...] = (OWN_CODE,)
#: Of these, what pickles leaves nothing half done: it may take long, as the program's objects do.
_PICKLING = os.path.dirname(pickling.__file__) + os.sep
#: Code that only waits, or pickles.
_waits: set[CodeType] = {
    Waiter.block.__code__,
    pickling._pickle.__code__,
    pickling.dump_function.__code__,
}
#: Signals that wait, and how each is delivered.
_pending: dict[int, Callable[[FrameType], None]] = {}
#: There are no profile events meanwhile.
_delivering = False


def may_interrupt(code: CodeType | None) -> None:
    """Signals may raise inside ``code``, as it only waits."""
    if code is not None:
        _waits.add(code)


def guard_plugin(target: str, is_installed: bool) -> None:
    """Nothing may be torn in a plugin that the core calls either.

    Args:
        target: ``package.module`` or ``package.module:attribute``, imported already.
        is_installed: the whole package is the plugin's; else the module alone, as the program's code may be beside it.
    """
    global _ours
    name = target.partition(":")[0]
    path = getattr(sys.modules.get(name.partition(".")[0] if is_installed else name), "__file__", None)
    if path is not None:
        is_package = is_installed and os.path.basename(path) == "__init__.py"
        _ours = tuple({*_ours, os.path.dirname(path) + os.sep if is_package else path})


def deliver_later(number: int, deliver: Callable[[FrameType], None]) -> bool:
    """Call ``deliver`` in this thread as soon as its code is not critical any more; once for each signal ``number``.

    A loop of short calls of ours may not be in the user's code at any moment when signals are looked at. Returns False,
    and does nothing, if there is a profiler of the user's, or this interrupts a delivery: no events come then.
    """
    profile = sys.getprofile()
    if _delivering or (profile is not None and profile is not _on_event):
        return False
    _pending[number] = deliver
    sys.setprofile(_on_event)
    return True


def stop_delivery(number: int) -> None:
    """The signal has been delivered otherwise."""
    if _pending.pop(number, None) is not None and not _pending and sys.getprofile() is _on_event:
        sys.setprofile(None)


def forget_signals() -> None:
    """The program ends, and what waits here would come to the next function of ``atexit``."""
    _pending.clear()
    if sys.getprofile() is _on_event:
        sys.setprofile(None)


def _on_event(frame: FrameType, event: str, arg: object) -> None:
    global _delivering
    __tracebackhide__ = True
    goes_on = frame if event == "call" else frame.f_back if event == "return" else None
    # What a destructor raises is lost.
    if goes_on is None or frame.f_code.co_name == "__del__" or in_critical_code(goes_on):
        return
    _delivering = True
    try:
        sys.setprofile(None)
        _deliver(goes_on)
    except BaseException as error:  # of the program's handler
        cut_frames(error)
        raise
    finally:
        _delivering = False


def _deliver(frame: FrameType) -> None:
    try:
        if _pending:
            _pending.pop(next(iter(_pending)))(frame)
    finally:
        if _pending:
            _deliver(frame)


def in_critical_code(frame: FrameType | None, inside: CodeType | None = None) -> bool:
    """Whether the innermost code of the program is ours and not waiting.

    ``inside`` is code of ours that calls the user's: reaching it means that the user's function is about to run or has
    just ended, which its caller guards.
    """
    frame = _traced(frame)
    while frame is not None:
        code, path = frame.f_code, _file_of(frame)
        if code in _waits or code is inside:
            return False
        if path.startswith(_ours):
            if not path.startswith(_PICKLING):
                return True
        elif _is_user_code(path):
            return False
        frame = frame.f_back
    return False


def _file_of(frame: FrameType) -> str:
    """Where its code stands. Methods that are made from a text are those of the class's module: of a dataclass, by its
    globals; of a named tuple, which has none of them, whatever its caller is.
    """
    path = frame.f_code.co_filename
    if path != _MADE:
        return path
    if str(frame.f_globals.get("__name__")).startswith(_NAMED_TUPLE):
        return _LIBRARY
    return str(frame.f_globals.get("__file__") or path)


def _traced(frame: FrameType | None) -> FrameType | None:
    """``frame``, or what a profiler or tracer of the program's, which runs within any code, has interrupted."""
    hooks = [hook for hook in (sys.getprofile(), sys.gettrace()) if hook is not None and hook is not _on_event]
    codes = [getattr(hook, "__code__", None) for hook in hooks]
    outer = frame if codes else None
    while outer is not None:
        if outer.f_code in codes or (outer.f_back is not None and _is_local_trace(outer.f_back, outer.f_code)):
            frame = outer.f_back
        outer = outer.f_back
    return frame


def _is_local_trace(frame: FrameType, code: CodeType) -> bool:
    return getattr(frame.f_trace, "__code__", None) is code


def in_destructor(frame: FrameType | None) -> bool:
    """Whether what is raised here would be lost, as an object is being destroyed."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def interrupt_of(task_id: bytes) -> KeyboardInterrupt:
    """What to raise in the code of a task that is to end."""
    error = KeyboardInterrupt()
    error.__dict__[_TASK] = task_id
    return error


def handles_interrupt(task_id: bytes) -> bool:
    """Whether this thread is in an ``except`` or ``finally`` block, or ``__exit__``, for the interrupt of a task."""
    error = sys.exception()
    while error is not None and getattr(error, _TASK, None) != task_id:
        error = error.__context__
    return error is not None


_TASK = "_ray_task"


def _is_user_code(path: str) -> bool:
    """Neither the standard library nor an installed package: our own code calls into both."""
    return not path.startswith((_LIBRARY, "<frozen")) and "-packages" + os.sep not in path


_LIBRARY = os.path.dirname(os.__file__) + os.sep
#: The file of such code, and how the name of its module begins that named tuples give it.
_MADE, _NAMED_TUPLE = "<string>", "namedtuple_"
