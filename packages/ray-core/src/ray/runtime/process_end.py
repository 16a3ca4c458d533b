"""The orderly end of a worker process."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from ray.messages import node

if TYPE_CHECKING:
    from ray.runtime.worker import WorkerRuntime


def _linger(runtime: WorkerRuntime) -> None:
    """Serve those who hold what this process owns until they do not."""
    if runtime.is_needed():
        runtime.node.send(node.Lingering())
        runtime.polling.serve_while(runtime.is_needed)


def end_process(runtime: WorkerRuntime, code: int) -> NoReturn:
    """Send what is queued, run what the user registered for the end, and leave without waiting for threads."""
    try:
        with runtime.lock:
            runtime.flush_all()
        if not code:
            runtime.leave_plugins()
            runtime.drop_actor()
            gc.collect()
            atexit._run_exitfuncs()
            _linger(runtime)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        with runtime.lock:
            runtime.flush_all()
            runtime.closed = True
        runtime.transport.close()
    finally:
        os._exit(code)
