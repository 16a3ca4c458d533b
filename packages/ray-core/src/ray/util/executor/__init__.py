"""``concurrent.futures`` over the processes of a session: ``RayExecutor``."""

from ray.util.executor.executor import RayExecutor
from ray.util.executor.futures import RayFuture

__all__ = ["RayExecutor", "RayFuture"]
