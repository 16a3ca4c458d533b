"""Every error this system raises, one class per failure, all under ``RayError``.

Each class takes what it knows as arguments, keeps them as attributes and builds its sentence itself; each is also the
builtin that a Python user would catch, and survives ``copy`` and ``pickle``.
"""

from __future__ import annotations

from ray.exceptions.base import (
    STDERR_TAIL_LINES,
    RayError,
    exit_text,
    qualified_name,
)
from ray.exceptions.objects import (
    DeserializationError,
    GetTimeoutError,
    ObjectExistsError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    OwnerDiedError,
    UnpicklableError,
)
from ray.exceptions.plugins import (
    AmbiguousPluginError,
    IncompatiblePluginsError,
    PluginContractError,
    PluginError,
    PluginNotInstalledError,
    PluginOptionsError,
    UnknownPluginError,
)
from ray.exceptions.processes import (
    BackPressureError,
    BlockingCallError,
    OutOfMemoryError,
    RayActorError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerCrashedError,
)
from ray.exceptions.system import (
    InvalidTransition,
    LocalProtocolError,
    NodeDiedError,
    ProtocolError,
    RayConnectionError,
    RaySystemError,
    RemoteProtocolError,
)
from ray.exceptions.task import (
    RayTaskError,
)

# Names of earlier releases.
RayTimeoutError = GetTimeoutError
RayWorkerError = WorkerCrashedError
RayCancellationError = TaskCancelledError
UnreconstructableError = ObjectLostError
RayletError = RaySystemError
RayGetError = RayTaskError
RayGetArgumentError = RayTaskError

__all__ = [
    "STDERR_TAIL_LINES",
    "AmbiguousPluginError",
    "BackPressureError",
    "BlockingCallError",
    "DeserializationError",
    "GetTimeoutError",
    "IncompatiblePluginsError",
    "InvalidTransition",
    "LocalProtocolError",
    "NodeDiedError",
    "ObjectExistsError",
    "ObjectLostError",
    "ObjectStoreFullError",
    "OutOfDiskError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "PluginContractError",
    "PluginError",
    "PluginNotInstalledError",
    "PluginOptionsError",
    "ProtocolError",
    "RayActorError",
    "RayCancellationError",
    "RayConnectionError",
    "RayError",
    "RayGetArgumentError",
    "RayGetError",
    "RaySystemError",
    "RayTaskError",
    "RayTimeoutError",
    "RayWorkerError",
    "RayletError",
    "RemoteProtocolError",
    "TaskCancelledError",
    "TaskTimeoutError",
    "UnknownPluginError",
    "UnpicklableError",
    "UnreconstructableError",
    "WorkerCrashedError",
    "exit_text",
    "qualified_name",
]

for _item in list(globals().values()):
    # One public place: what users see in tracebacks and what pickles name.
    if isinstance(_item, type) and issubclass(_item, RayError):
        _item.__module__ = __name__
del _item
