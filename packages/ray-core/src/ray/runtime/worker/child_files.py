"""Files of the processes that a worker starts with ``multiprocessing``: they go with the session."""

from __future__ import annotations

import os
from multiprocessing import process
from typing import Any


def keep_in(folder: str) -> None:
    """Have what ``multiprocessing`` needs for a while be put into ``folder``, and not into one that it makes itself.

    It would remove its own when the process ends in order, and leave it behind when the process is killed, as workers
    are at the end of a session. To be called by each worker: the module, with its key, was there before the fork.
    """
    main: Any = process.current_process()
    main._config["tempdir"] = folder
    main.authkey = os.urandom(32)
