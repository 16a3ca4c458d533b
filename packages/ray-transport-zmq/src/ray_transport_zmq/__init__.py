"""ZeroMQ transport for ray-core: encrypted messages between machines.

This release holds the package and its metadata only. The plugin itself is not in it: nothing is registered, and
``ray.init(transport="zmq")`` says so.
"""

from ray_transport_zmq._version import __version__

__all__ = ["__version__"]
