"""The machine's clocks, whatever a program makes of the module ``time``.

Tests of programs freeze or shift time: they replace the functions of ``time``, wherever a module holds one. Deadlines,
beats and pauses have to go on all the same. So the functions here come from a copy of that module of our own: it is not
in ``sys.modules``, its functions are other objects, and they are real even where time was frozen before this was
imported. They cost what those of ``time`` do. No other module of these packages imports ``time``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.machinery import BuiltinImporter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


def _copy_of_time() -> Any:
    spec = BuiltinImporter.find_spec("time")
    module = None if spec is None else BuiltinImporter.create_module(spec)
    if module is None:  # an interpreter that has it elsewhere
        import time

        return time
    BuiltinImporter.exec_module(module)
    return module


_time = _copy_of_time()

#: For deadlines and pauses; the same for all processes of a machine.
monotonic: Callable[[], float] = _time.monotonic
sleep: Callable[[float], None] = _time.sleep
#: For measurements.
perf_counter: Callable[[], float] = _time.perf_counter
perf_counter_ns: Callable[[], int] = _time.perf_counter_ns
thread_time: Callable[[], float] = _time.thread_time
#: The time of day, for what people read and for the ages of files. Some libraries change what lies behind ``time.time``
#: and CLOCK_REALTIME, for each copy; they leave the coarse clock alone, whose number ``time`` does not name.
wall_time: Callable[[], float] = partial(_time.clock_gettime, 5) if sys.platform == "linux" else _time.time


def cpu_time_of(thread: int) -> float:
    """The processor time that a thread, given by its ``ident``, has used.

    Raises:
        AttributeError: this system does not tell.
        OSError: the thread has ended.
    """
    used: float = _time.clock_gettime(_time.pthread_getcpuclockid(thread))
    return used


def new_event_loop() -> AbstractEventLoop:
    """One of asyncio whose timers go by ``monotonic``: of a session, not of the program."""
    import asyncio

    loop = asyncio.new_event_loop()
    loop.time = monotonic  # type: ignore[method-assign]
    return loop
