"""ZeroMQ transport for ray-core: unix sockets on one machine, encrypted TCP between machines.

``ray.init(transport="zmq")`` selects it; importing this package loads nothing of ZeroMQ.
"""

from ray_transport_zmq._version import __version__

__all__ = ["__version__"]
