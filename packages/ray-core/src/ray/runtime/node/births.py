"""Births of workers: forked twice, so that the process which takes in orphans gets them; each is known at once."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable

from ray.clock import monotonic
from ray.runtime.process.supervision import die_with_parent

#: The process between has nothing to do but to fork. If it does not, it is looked this often whether it ever will, and
#: not waited for longer than this.
_LOOK_S, _LIMIT_S = 3.0, 30.0
_MAX_ANSWER_BYTES = 4096
_NO_ANSWER = "the process that was to fork it was ended or stopped"


def fork_grandchild(announce: Callable[[int, str], None]) -> bool:
    """Fork a process that is not this one's child but that of the subreaper above; True in that process.

    Whatever happens meanwhile to the process between the two, every grandchild that goes on has been announced: it
    waits for a word of this process, and ends if that cannot come any more.

    Args:
        announce: called in this process with the pid of the grandchild; with 0, and why, if there is none.
    """
    zygote = os.getpid()
    pipes: list[int] = []
    try:
        for _ in range(2):
            pipes += os.pipe()
        between = os.fork()
    except OSError as error:
        for fd in pipes:
            os.close(fd)
        announce(0, str(error))
        return False
    answer, their_answer, their_go, go = pipes
    if not between:
        try:
            _fork_and_tell(zygote, their_answer)
            for fd in (answer, their_answer, go):
                os.close(fd)
            if os.read(their_go, 1):
                os.close(their_go)
                return True
        except BaseException:
            os._exit(1)
        os._exit(1)
    os.close(their_answer)
    os.close(their_go)
    try:
        pid, _, why = _read_answer(answer, between).partition(b" ")
        os.kill(between, signal.SIGKILL)  # it has nothing more to do, and may stand still
        os.waitpid(between, 0)
        announce(int(pid or 0), why.decode(errors="replace") or _NO_ANSWER)
        if pid:
            with contextlib.suppress(BrokenPipeError):  # it was killed; its parent sees to that
                os.write(go, b"!")
    finally:
        os.close(answer)
        os.close(go)
    return False


def _fork_and_tell(parent: int, answer: int) -> None:
    """Be the process between: returns only in the one that it forks."""
    try:
        if sys.platform == "linux":
            die_with_parent(parent)
        pid = os.fork()
        if not pid:
            return
        text = f"{pid} "
    except BaseException as error:
        text = f"0 {error}"
    with contextlib.suppress(OSError):
        os.write(answer, text.encode(errors="replace")[:_MAX_ANSWER_BYTES])
    os._exit(0)


def _read_answer(answer: int, between: int) -> bytes:
    """What the process between says; nothing if it ends before, or stands still."""
    poll = select.poll()
    poll.register(answer, select.POLLIN)
    end = monotonic() + _LIMIT_S
    while not poll.poll(_LOOK_S * 1000):
        if _will_not_answer(between) or monotonic() > end:
            return b""
    return os.read(answer, _MAX_ANSWER_BYTES)


def _will_not_answer(between: int) -> bool:
    """Whether the process between has ended or was stopped; it stays to be waited for."""
    if sys.platform != "linux":
        return False
    return os.waitid(os.P_PID, between, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
