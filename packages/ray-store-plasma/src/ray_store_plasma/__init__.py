"""Arena object store for ray-core: warm pages, eviction and spilling.

``ray.init(store="plasma")`` chooses it. The server is a process of its own on each node, in ``process``, ``server``,
``connections`` and ``disk``; what it decides is in ``table``, ``room`` and ``allocator``, which touch nothing; other
processes are clients: ``client``, ``link``, ``mapping`` and ``holds``.
"""

from ray_store_plasma._version import __version__

__all__ = ["__version__"]
