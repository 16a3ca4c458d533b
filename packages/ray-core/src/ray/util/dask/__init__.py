"""Graphs of Dask run as tasks of a session: arrays, frames and ``delayed``. Needs the extra ``ray-core[dask]``."""

from ray.util.dask.enabling import disable_dask_on_ray, enable_dask_on_ray
from ray.util.dask.scheduler import ray_dask_get

__all__ = ["disable_dask_on_ray", "enable_dask_on_ray", "ray_dask_get"]
