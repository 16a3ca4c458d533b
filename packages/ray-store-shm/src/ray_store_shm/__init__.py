"""Shared-memory object store for ray-core: one sealed memory file per object."""

from ray_store_shm._version import __version__

__all__ = ["__version__"]
