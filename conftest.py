"""What holds for every test of the repository."""

from __future__ import annotations

import contextlib
import gc
import signal


def pytest_configure() -> None:
    """Ctrl-C works in the programs that tests start, also where this one was started without: behind ``nohup … &``."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Tests that look for garbage look at their own: thousands of collected tests take longer than most of them."""
    with contextlib.suppress(ImportError):
        import hypothesis  # noqa: F401  # asks for what refers to the generators of others, and has to find it
    gc.collect()
    gc.freeze()
