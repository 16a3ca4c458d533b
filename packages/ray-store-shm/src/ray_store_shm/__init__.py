"""Shared-memory object store for ray-core: one sealed memory file per object.

This release holds the package and its metadata only. The plugin itself is not in it: nothing is registered, and
``ray.init(store="shm")`` says so.
"""

from ray_store_shm._version import __version__

__all__ = ["__version__"]
