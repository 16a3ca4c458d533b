"""Arena object store for ray-core: warm pages, eviction and spilling.

This release holds the package and its metadata only. The plugin itself is not in it: nothing is registered, and
``ray.init(store="plasma")`` says so.
"""

from ray_store_plasma._version import __version__

__all__ = ["__version__"]
