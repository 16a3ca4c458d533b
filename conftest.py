"""What holds for every test of the repository."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Ctrl-C works in the programs that tests start, also where this one was started without: behind ``nohup … &``."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
