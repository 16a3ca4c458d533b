"""Tasks that show how many of them run at a time, without a guess of how long anything takes."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import TypeAlias

from ray.testing import eventually

#: A task that waits for longer than this waits in vain.
LIMIT_S = 30.0

#: When something began and ended, on the clock that all processes share.
Span: TypeAlias = tuple[float, float]


def meet(folder: Path, count: int, stay_s: float = 0.0) -> Span:
    """Arrive, wait until ``count`` have arrived, stay a little longer."""
    began = time.monotonic()
    (folder / uuid.uuid4().hex).touch()
    wait_for(folder, count)
    time.sleep(stay_s)
    return began, time.monotonic()


def wait_for(folder: Path, count: int, timeout_s: float = LIMIT_S) -> None:
    """Wait until ``count`` have arrived."""

    def arrived() -> int:
        return len(os.listdir(folder))

    eventually(lambda: arrived() >= count, timeout_s, lambda: f"{arrived()} instead of {count} have arrived")


def peak(spans: list[Span]) -> int:
    """The most that have run at the same time."""
    moments = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    running = most = 0
    for _, change in moments:
        running += change
        most = max(most, running)
    return most
