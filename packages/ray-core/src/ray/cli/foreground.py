"""What the command that starts a node does with it: leaves it running, or lives as long as it does (``--block``)."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Protocol

import click

from ray.cli import exits
from ray.exceptions.base import exit_text
from ray.runtime.process.session_dirs import NodeEnd


class Terminated(KeyboardInterrupt):
    """SIGTERM has come: as Ctrl-C, it ends what is under way, and every part takes away what it has begun."""


class Started(Protocol):
    """What runs in processes of its own."""

    def wait(self) -> int:
        """Wait for its end; returns its exit code."""

    def stop(self) -> None:
        """End it. Idempotent."""

    def leave(self) -> None:
        """Let it run on when this program ends."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Within it, SIGTERM raises ``Terminated``. Of the main thread."""

    def on_term(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, on_term)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(show: Callable[[], None]) -> None:
    """Tell the user, who may have closed the pipe that was to hear it."""
    try:
        show()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def see_off(started: Started, show: Callable[[], None], *, block: bool, session_dir: str = "") -> int:
    """Say that it runs, and leave it; or stay until it has ended, or SIGTERM or Ctrl-C ends it.

    Args:
        started: what runs.
        show: tells the user.
        block: stay.
        session_dir: of the node that it is, which tells why it ends.

    Returns:
        The exit code of the command.
    """
    end = NodeEnd(session_dir)
    try:
        _tell(show)
        if block:
            code = started.wait()
            if code == 0:
                return exits.DONE
            who = "the node manager" if session_dir else "the process that looks after the cluster"
            how = exit_text(signal=-code) if code < 0 else exit_text(code)
            click.echo(f"ray: {end.reason() or f'{who} has ended: {how}'}", err=True)
            return exits.FAILED
    except BaseException:
        started.stop()
        raise
    finally:
        end.close()
    started.leave()
    return exits.DONE
