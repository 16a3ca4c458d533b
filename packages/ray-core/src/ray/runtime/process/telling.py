"""Telling the user what happens, also where the runtime's lock is held, and where nobody takes what is said."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable

from ray.runtime.process import program_streams
from ray.threads import UnawaitedThread

#: A thread with something to say waits so long for a reader that takes nothing; then it is said when there is room.
PATIENCE_S = 1.0
#: What is to be said, the newest of it.
_texts: deque[str] = deque(maxlen=1000)
#: Held by the thread that says it.
_saying = threading.Lock()


def tell(call: Callable[..., object], *args: object) -> threading.Thread | None:
    """Have ``call`` run on a thread of its own: it may run code of the user's, which may call ray, or wait for others.

    Handlers of ``logging`` are such code, and streams that the user has put in the place of ``sys.stderr``. Returns
    None where the system gives no thread, or the interpreter ends.
    """
    thread = UnawaitedThread(target=call, args=args, name="ray-teller", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def say(text: str) -> None:
    """Write a line to ``sys.stderr``, away from the lock."""
    _texts.append(f"[ray] {text}\n")
    tell(_say)


def write(text: str) -> None:
    """Write to ``sys.stderr``; return soon also where that takes nothing.

    What it refuses is lost: no call and no thread fails as nobody can be told.
    """
    _texts.append(text)
    thread = tell(_say)
    if thread is None:
        _say(0.0)
    else:
        thread.join(PATIENCE_S)


def _say(wait_s: float | None = None) -> None:
    while _texts and _saying.acquire(blocking=False):
        try:
            while _texts:
                with contextlib.suppress(Exception):  # the program's own stream may raise what it likes
                    program_streams.write(sys.stderr, _texts.popleft(), wait_s=wait_s, above=True)
        finally:
            _saying.release()


class _LastResort(logging.Handler):
    """Says what is logged under ``ray`` where the program has set no handler: that of ``logging`` waits for readers."""

    def createLock(self) -> None:  # noqa: N802 - the name that logging gives it
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING and logging.lastResort is not None and not self._others(record):
            write(f"[ray] {self.format(record)}\n")
        return True

    def _others(self, record: logging.LogRecord) -> bool:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False


log = logging.getLogger("ray")
log.addHandler(_LastResort())


def _after_fork_in_child() -> None:
    global _saying
    _texts.clear()
    _saying = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
