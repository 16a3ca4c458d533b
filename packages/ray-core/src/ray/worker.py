"""Errors under the names and the import path that early programs use."""

from ray.exceptions import RayConnectionError, RayTaskError

RayGetError = RayTaskError

__all__ = ["RayConnectionError", "RayGetError", "RayTaskError"]
