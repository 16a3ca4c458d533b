"""Whether the main thread does nothing but wait for other threads, because Ctrl-C ends the program."""

from __future__ import annotations

import os
import sys
import threading

#: (module, function) that end the program, or a loop and all that ran on it.
_END = {(os.path.basename(threading.__file__), "_shutdown"), ("runners.py", "close")}
#: Those that wait for a pool's threads.
_JOINS = {("thread.py", "shutdown"), *_END}


def main_thread_joins(may_end: bool) -> bool:
    """Look at the main thread: it leaves a block of a pool, or ``asyncio.run``, with what Ctrl-C has raised, or ends.

    Args:
        may_end: Ctrl-C has just come. The end of the program, or of a loop, counts without an exception, too, as it may
            have passed; and so does CancelledError, which ``asyncio.run`` makes of the first Ctrl-C.
    """
    ident = threading.main_thread().ident or 0
    active: object = sys._current_exceptions().get(ident)
    error = active[1] if isinstance(active, tuple) else active  # a triple before Python 3.12
    raised = isinstance(error, KeyboardInterrupt) or (may_end and type(error).__name__ == "CancelledError")
    wanted = _JOINS if raised else _END if may_end else set()
    frame = sys._current_frames().get(ident)
    while frame is not None and wanted:
        if (os.path.basename(frame.f_code.co_filename), frame.f_code.co_name) in wanted:
            return True
        frame = frame.f_back
    return False
