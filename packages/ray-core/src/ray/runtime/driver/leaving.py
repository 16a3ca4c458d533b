"""The node that a program is to join is no more, or is ending: another look may find another one."""

from __future__ import annotations

from ray.exceptions import RayConnectionError


class NodeLeavesError(RayConnectionError):
    """What users see is its base."""
