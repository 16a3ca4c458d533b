"""What programs that were written for ``multiprocessing`` catch."""

from __future__ import annotations

import multiprocessing

from ray.exceptions import GetTimeoutError


class ResultTimeoutError(GetTimeoutError, multiprocessing.TimeoutError):
    """The result of a pool was not there in time: a ``multiprocessing.TimeoutError``, too."""
