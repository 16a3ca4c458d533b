"""The interfaces of the seams: one file each, no implementation."""

from ray.abc.control import ControlServer, ControlStore
from ray.abc.executor import Call, Executor
from ray.abc.scheduler import NodeView, ResourceRequest, SchedulerPolicy
from ray.abc.store import Listing, Notifier, Pinning, Store, StoredObject, StoreServer, StoreStats
from ray.abc.transport import Connection, Frame, Transport

__all__ = [
    "Call",
    "Connection",
    "ControlServer",
    "ControlStore",
    "Executor",
    "Frame",
    "Listing",
    "NodeView",
    "Notifier",
    "Pinning",
    "ResourceRequest",
    "SchedulerPolicy",
    "Store",
    "StoreServer",
    "StoreStats",
    "StoredObject",
    "Transport",
]
