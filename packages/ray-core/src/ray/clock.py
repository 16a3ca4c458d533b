"""The machine's clocks, whatever a program makes of the module ``time``.

Tests of programs freeze or shift time: they replace the functions of ``time``, wherever a module holds one. Deadlines,
beats and pauses have to go on all the same. So the functions here come from a copy of that module of our own: it is not
in ``sys.modules``, its functions are other objects, and they are real even where time was frozen before this was
imported. They cost what those of ``time`` do. No other module of these packages imports ``time``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.machinery import BuiltinImporter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future


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
#: The same, and goes on while the machine is suspended: for the right of a node to run, which others count as well.
boottime: Callable[[], float] = (
    partial(_time.clock_gettime, _time.CLOCK_BOOTTIME) if hasattr(_time, "CLOCK_BOOTTIME") else monotonic
)
#: Has the process look at ``TZ`` again.
tzset: Callable[[], None] = _time.tzset
#: For measurements.
perf_counter: Callable[[], float] = _time.perf_counter
perf_counter_ns: Callable[[], int] = _time.perf_counter_ns
thread_time: Callable[[], float] = _time.thread_time
#: The time of day, for what people read and for the ages of files. Some libraries change what lies behind ``time.time``
#: and CLOCK_REALTIME, for each copy; they leave the coarse clock alone, whose number ``time`` does not name. It is
#: some milliseconds late, as the times of files are.
wall_time: Callable[[], float] = partial(_time.clock_gettime, 5) if sys.platform == "linux" else _time.time


def left_until(end: float | None) -> float | None:
    """The seconds that are left until ``end`` by ``monotonic``, at least 0; None: there is no end."""
    return None if end is None else max(0.0, end - monotonic())


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


def _goes_by(loop: AbstractEventLoop) -> bool:
    """Whether the timers of a loop go by ``monotonic``. Loops that are not asyncio's have clocks of their own."""
    from asyncio import BaseEventLoop

    before = monotonic()
    return not isinstance(loop, BaseEventLoop) or before <= loop.time() <= monotonic()


async def wait_until(end: float | None, future: Future[Any]) -> None:
    """Wait for a future on the running loop, at most until ``end`` by ``monotonic``, whatever the loop's clock says."""
    import asyncio
    import threading

    loop = asyncio.get_running_loop()
    while not future.done():
        left_s = None if end is None else end - monotonic()
        if left_s is None or left_s <= 0 or _goes_by(loop):
            await asyncio.wait([future], timeout=left_s)
        else:
            alarm = loop.create_future()
            ring = partial(_on_loop, loop, partial(_finish, alarm))
            timer = threading.Timer(min(left_s, 1e6), ring)
            timer.daemon = True
            timer.start()
            try:
                await asyncio.wait([future, alarm], return_when=asyncio.FIRST_COMPLETED)
            finally:
                timer.cancel()
        if left_s is None or end is None or monotonic() >= end:
            return


def _on_loop(loop: AbstractEventLoop, callback: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # it is closed
        loop.call_soon_threadsafe(callback)


def _finish(alarm: Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)
