"""What a process lets go of that was forked to be a server of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable


def highest_descriptor() -> int:
    """The highest that this process has open."""
    return max((int(name) for name in os.listdir("/proc/self/fd")), default=3)


def become_server(parent: int, keep: Iterable[int], highest: int) -> None:
    """Let go of the parent's signals, descriptors and input; end at once if the parent has gone already.

    Args:
        parent: pid of the process that has forked this one.
        keep: descriptors that stay open beside those of the output.
        highest: no descriptor above it is open.
    """
    if os.getppid() != parent:
        os._exit(1)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o077)
    low = 3
    for descriptor in sorted(keep):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, highest + 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
