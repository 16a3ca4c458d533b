"""Forks by the user's code: the child, a copy without the parent's threads, lets go of the session."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import weakref
from typing import NoReturn, Protocol

from ray.abc.store import Store
from ray.abc.transport import Transport
from ray.exceptions.base import is_a, traceback_of
from ray.protocol.references import ReferenceTable

#: Why the child has no session.
NOT_ACROSS = (
    "This process was forked from one that has a session, and a session does not cross a fork. Call ray in the parent "
    "and pass the values on, run tasks instead of child processes, or start a session of this process with "
    "'ray.init()'."
)


class Forkable(Protocol):
    """A session of this process."""

    is_worker: bool
    is_forked: bool
    closed: bool
    table: ReferenceTable
    transport: Transport
    store: Store

    def after_fork_in_child(self) -> None:
        """This is a copy of the process, made by the user's code: let go of everything without touching it."""


#: Those of this process.
_live: weakref.WeakSet[Forkable] = weakref.WeakSet()


def watch_forks(runtime: Forkable) -> None:
    """From now on, forked children of this process let go of ``runtime``."""
    _live.add(runtime)


def let_go(runtime: Forkable) -> None:
    """In a forked child: close what is inherited, without a word to any process, and have no session."""
    runtime.is_forked = runtime.closed = True
    runtime.table.closed = True
    runtime.transport.abandon()
    runtime.store.abandon()
    if runtime.is_worker:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.default_int_handler)


def end_forked_child(error: BaseException | None) -> NoReturn:
    """A child forked by a task comes to the end of the task: it must not answer in the place of its parent."""
    code: object = 0 if error is None else 1
    if error is not None and is_a(error, SystemExit):
        given = SystemExit.__dict__["code"].__get__(error)
        code = 0 if given is None else given
    elif error is not None:
        sys.excepthook(type(error), error, traceback_of(error))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code & 0xFF if isinstance(code, int) else 1)


def _after_fork_in_child() -> None:
    for runtime in list(_live):
        runtime.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
