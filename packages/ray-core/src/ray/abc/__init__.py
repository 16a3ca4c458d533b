"""The interfaces of the seams: one file each, no implementation."""

from ray.abc.control import ControlServer, ControlStore
from ray.abc.executor import Call, Executor
from ray.abc.scheduler import NodeView, ResourceRequest, SchedulerPolicy
from ray.abc.store import Store, StoreServer, StoreStats
from ray.abc.transport import Connection, Frame, Transport

__all__ = [
    "Call",
    "Connection",
    "ControlServer",
    "ControlStore",
    "Executor",
    "Frame",
    "NodeView",
    "ResourceRequest",
    "SchedulerPolicy",
    "Store",
    "StoreServer",
    "StoreStats",
    "Transport",
]
