"""Every error this system raises, one class per failure, all under ``RayError``.

Each class takes what it knows as arguments, keeps them as attributes and builds its sentence itself; each is also the
builtin that a Python user would catch, and survives ``copy`` and ``pickle``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray import later_names
from ray.exceptions.base import (
    STDERR_TAIL_LINES,
    RayError,
    exit_text,
    qualified_name,
)
from ray.exceptions.control import (
    ControlDeniedError,
    ControlFullError,
    ControlKindError,
    ControlStoreError,
    ControlTimeoutError,
    ControlUnavailableError,
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
    RuntimeEnvSetupError,
    TaskCancelledError,
    TaskTimeoutError,
    WorkerCrashedError,
)
from ray.exceptions.system import (
    InvalidTransition,
    KeyFileError,
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

# Names of other releases; the table of them all is ``ray.later_names``.
ActorDiedError = RayActorError
ActorUnavailableError = RayActorError
LocalRayletDiedError = NodeDiedError
ObjectFetchTimedOutError = ObjectLostError
ObjectFreedError = ObjectLostError
ObjectReconstructionFailedError = ObjectLostError
ObjectReconstructionFailedLineageEvictedError = ObjectLostError
ObjectReconstructionFailedMaxAttemptsExceededError = ObjectLostError
PendingCallsLimitExceeded = BackPressureError
PlasmaObjectNotAvailable = ObjectLostError
ReferenceCountingAssertionError = ObjectLostError
UserCodeException = RayTaskError
RayTimeoutError = GetTimeoutError
RayWorkerError = WorkerCrashedError
RayCancellationError = TaskCancelledError
UnreconstructableError = ObjectLostError
RayletError = RaySystemError
RayGetError = RayTaskError
RayGetArgumentError = RayTaskError

__all__ = [
    "STDERR_TAIL_LINES",
    "ActorDiedError",
    "ActorUnavailableError",
    "AmbiguousPluginError",
    "BackPressureError",
    "BlockingCallError",
    "ControlDeniedError",
    "ControlFullError",
    "ControlKindError",
    "ControlStoreError",
    "ControlTimeoutError",
    "ControlUnavailableError",
    "DeserializationError",
    "GetTimeoutError",
    "IncompatiblePluginsError",
    "InvalidTransition",
    "KeyFileError",
    "LocalProtocolError",
    "LocalRayletDiedError",
    "NodeDiedError",
    "ObjectExistsError",
    "ObjectFetchTimedOutError",
    "ObjectFreedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "ObjectReconstructionFailedLineageEvictedError",
    "ObjectReconstructionFailedMaxAttemptsExceededError",
    "ObjectStoreFullError",
    "OutOfDiskError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "PendingCallsLimitExceeded",
    "PlasmaObjectNotAvailable",
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
    "ReferenceCountingAssertionError",
    "RemoteProtocolError",
    "RuntimeEnvSetupError",
    "TaskCancelledError",
    "TaskTimeoutError",
    "UnknownPluginError",
    "UnpicklableError",
    "UnreconstructableError",
    "UserCodeException",
    "WorkerCrashedError",
    "exit_text",
    "qualified_name",
]

if not TYPE_CHECKING:  # checkers are to see a misspelt name

    def __getattr__(name: str) -> Any:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{later_names.sentence(__name__, name)}")


for _item in list(globals().values()):
    # One public place: what users see in tracebacks and what pickles name.
    if isinstance(_item, type) and issubclass(_item, RayError):
        _item.__module__ = __name__
del _item
