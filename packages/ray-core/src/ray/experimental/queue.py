"""``ray.util.queue`` by the name that it had first."""

from __future__ import annotations

from ray.util.queue import Empty, Full, Queue

__all__ = ["Empty", "Full", "Queue"]
