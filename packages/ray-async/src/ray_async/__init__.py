"""asyncio for ray-core: actor executor, object selector and event loop.

This release holds the package and its metadata only. The plugin itself is not in it: nothing is registered, and
``ray.init(selector="epoll")`` says so.
"""

from ray_async._version import __version__

__all__ = ["__version__"]
