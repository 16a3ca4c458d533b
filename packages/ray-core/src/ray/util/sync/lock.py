"""``Lock``: one at a time, of all processes together."""

from __future__ import annotations

from ray.util.sync.semaphore import Semaphore


class Lock(Semaphore):
    """A lock like ``threading.Lock``: a ``Semaphore`` that one may have at a time. No second time by who has it."""

    _kind = "Lock"

    def __init__(self, *, name: str | None = None, namespace: str | None = None, lease_s: float | None = None) -> None:
        """Make it, or find the one of that name; as a ``Semaphore``."""
        super().__init__(1, name=name, namespace=namespace, lease_s=lease_s)
