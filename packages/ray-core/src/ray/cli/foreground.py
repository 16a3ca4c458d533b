"""``--block``: a command that lives as long as what it has started."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

from ray.cli import exits


class _TermError(Exception):
    """SIGTERM has come."""


def until_stopped(wait: Callable[[], int], stop: Callable[[], None]) -> int:
    """Wait for the end of what runs, or end it with SIGTERM or Ctrl-C; returns the exit code of the command.

    Args:
        wait: blocks until it has ended; returns its exit code.
        stop: ends it.
    """

    def on_term(number: int, frame: FrameType | None) -> None:
        raise _TermError

    before = signal.signal(signal.SIGTERM, on_term)
    try:
        return exits.DONE if wait() == 0 else exits.FAILED
    except _TermError:
        stop()
        return exits.DONE
    except KeyboardInterrupt:
        stop()
        return exits.INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
