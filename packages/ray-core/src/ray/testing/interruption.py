"""Have a call interrupted, at a chosen point, by another one on the same thread.

That is what the garbage collector does, which runs finalisers, and what signals do. They come at points that nobody can
choose; here the points are numbered. What interrupts runs where CPython would let it: behind calls of what is not
Python code, at the start of functions, where loops begin again, and where containers are made.
"""

from __future__ import annotations

import opcode
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

R = TypeVar("R")

_POINTS = frozenset(
    number
    for number, name in enumerate(opcode.opname)
    if name.startswith(
        ("CALL", "RESUME", "JUMP_BACKWARD", "POP_JUMP_BACKWARD", "BUILD_", "GET_ITER", "MAKE_FUNCTION", "LIST_")
    )
)
_NEVER_S = 1e3
#: Points only where they jump.
_CONDITIONAL = frozenset(number for number, name in enumerate(opcode.opname) if name.startswith("POP_JUMP_BACKWARD"))


def interrupted(
    call: Callable[[], R], point: int, interrupt: Callable[[], object], inside: Callable[[str], bool]
) -> tuple[R, int]:
    """Run ``call`` and, at its ``point``-th point, counted from 1, ``interrupt``.

    ``inside`` tells, by file name, the code whose points count. A tracer that was set is put aside meanwhile.

    Returns:
        What ``call`` returns, and how many points it has passed.
    """
    seen = 0
    #: {frame: its last instruction, and where that is}
    last: dict[FrameType, tuple[int, int]] = {}

    def in_function(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal seen
        if event == "return":
            last.pop(frame, None)
        elif event == "opcode":
            before, place = last.get(frame, (-1, 0))
            last[frame] = frame.f_code.co_code[frame.f_lasti], frame.f_lasti
            if before in _POINTS and (before not in _CONDITIONAL or frame.f_lasti < place):
                seen += 1
                if seen == point:
                    sys.settrace(None)
                    sys.setswitchinterval(interval_s)
                    try:
                        interrupt()
                    finally:
                        sys.setswitchinterval(_NEVER_S)
                        sys.settrace(tracer)
        return in_function

    def tracer(frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_back in last:  # there is no point behind a call of Python code, whosever that is
            del last[frame.f_back]
        if not inside(frame.f_code.co_filename):
            return None
        frame.f_trace = in_function  # first: Python 3.13 looks for it where the others are set
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return in_function

    previous = sys.gettrace()
    if sys.version_info[:2] == (3, 12):  # it looks when a tracer is set whether some frame wants them
        sys._getframe().f_trace_opcodes = True
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(_NEVER_S)  # the tracer would let other threads run between any two instructions
    sys.settrace(tracer)
    try:
        result = call()
    finally:
        sys.settrace(previous)
        sys.setswitchinterval(interval_s)
    return result, seen
