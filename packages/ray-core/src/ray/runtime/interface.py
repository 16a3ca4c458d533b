"""What the API asks of a runtime, and the records that pass between them.

Two runtimes exist: ``ray.runtime.owner.owner.OwnerRuntime`` (drivers and workers) and
``ray.runtime.local.session.LocalRuntime`` (``local_mode``). The API checks arguments; a runtime may rely on that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import msgspec

from ray.exceptions.base import printable
from ray.runtime.arity import Arity
from ray.runtime.refs import session
from ray.runtime.refs.session import Session

if TYPE_CHECKING:
    from ray.messages.placement import Placement
    from ray.runtime.refs.ref import ObjectRef

#: Number of returns of a task that yields them one by one.
STREAMING = -1


class TaskOptions(msgspec.Struct, frozen=True):
    """Options of a remote function, validated and complete."""

    resources: Mapping[str, int]
    """Fixed-point amounts by name: ``CPU``, ``GPU``, ``memory`` (bytes, times the unit) and custom ones. No zeros."""
    num_returns: int = 1
    """STREAMING for as many as it yields."""
    max_calls: int = 0
    """Executions after which the worker process is replaced; 0 is never."""
    max_retries: int = 3
    """Re-runs after the death of a worker; -1 is without limit."""
    retry_exceptions: bool | tuple[type[BaseException], ...] = False
    timeout_s: float | None = None
    priority: int = 0
    name: str | None = None
    placement: Placement | None = None


class MethodOptions(msgspec.Struct, frozen=True):
    """Options of one actor method, from ``@ray.method`` and ``handle.m.options()``."""

    num_returns: int = 1
    """STREAMING for as many as it yields."""
    timeout_s: float | None = None
    concurrency_group: str | None = None
    name: str | None = None
    max_task_retries: int | None = None
    """None takes the actor's."""
    arity: Arity | None = None
    """What the method takes, checked at the call; None where Python cannot tell."""


#: Set on the function of a method that is to run on a thread where the actor has an event loop.
IN_THREAD = "__ray_in_thread__"


class ActorOptions(msgspec.Struct, frozen=True):
    """Options of an actor, validated and complete."""

    resources: Mapping[str, int]
    """Held for the actor's life."""
    placement_resources: Mapping[str, int]
    """Needed to be placed; the difference to ``resources`` is given back once the actor runs."""
    max_concurrency: int | None = None
    """None: 1000 with ``async def`` methods, else 1."""
    max_restarts: int = 0
    max_task_retries: int = 0
    name: str | None = None
    namespace: str | None = None
    detached: bool = False
    concurrency_groups: Mapping[str, int] = msgspec.field(default_factory=dict)
    placement: Placement | None = None


#: A function or class in pickled form, as a runtime keeps it.
E = TypeVar("E")


class FunctionDescriptor(Generic[E]):
    """A user's function or class as the runtime sees it; one per decorated object, shared by its ``options`` copies."""

    __slots__ = ("export", "name", "qualname", "target")

    def __init__(self, target: Any) -> None:
        self.target = target
        self.name: str = printable(getattr(target, "__name__", type(target).__name__))
        qualname = getattr(target, "__qualname__", self.name)
        module = getattr(target, "__module__", "?")  # None where the globals have no name
        self.qualname: str = printable(qualname if module is None else f"{module}.{qualname}")
        #: Owned by the runtime: its cache of the pickled form, replaced when the session changes.
        self.export: E | None = None


class Client:
    """A runtime's way to one actor, or the actor itself: only the runtime that has made it knows which."""

    __slots__ = ()


class ActorCore:
    """The runtime's side of an actor handle. ``life`` keeps the actor alive through ordinary reference counting."""

    __slots__ = ("__weakref__", "actor_id", "class_name", "client", "is_async", "life", "max_task_retries", "methods")

    def __init__(
        self,
        actor_id: bytes,
        class_name: str,
        methods: Mapping[str, MethodOptions],
        life: ObjectRef[Any] | None,
        max_task_retries: int = 0,
        is_async: bool = False,
    ) -> None:
        self.actor_id = actor_id
        self.class_name = class_name
        self.methods = methods
        self.life = life
        self.max_task_retries = max_task_retries
        self.is_async = is_async
        #: Owned by the runtime: its connection state to this actor, None until the first call.
        self.client: Client | None = None


class Work(Protocol):
    """Tasks and actors, as the API makes them."""

    def submit_task(
        self, function: FunctionDescriptor[Any], options: TaskOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Submit; returns one ref, a list of refs (``num_returns > 1``), None (0) or an ObjectRefGenerator.

        Nothing happens if it raises.
        """

    def create_actor(
        self,
        cls: FunctionDescriptor[Any],
        options: ActorOptions,
        methods: Mapping[str, MethodOptions],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        is_async: bool,
    ) -> ActorCore:
        """Start an actor; returns at once. A taken name raises ValueError here."""

    def submit_call(
        self, actor: ActorCore, method: str, options: MethodOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Submit an actor call; returns as ``submit_task``."""

    def adopt_actor(self, core: ActorCore) -> ActorCore:
        """Register a handle that was deserialized here; returns the process's one core for that actor."""


class Objects(Protocol):
    """Values, as the API puts and gets them."""

    def put(self, value: object) -> ObjectRef[Any]:
        """Store a copy of ``value``."""

    def get(self, refs: Sequence[ObjectRef[Any]], timeout_s: float | None, copy: bool = False) -> list[Any]:
        """Values in order. Raises as soon as one has failed (the first in the list that has by then), or in time."""

    def remembers(self, refs: list[ObjectRef[Any]]) -> bool:
        """Whether ``refs`` is a list that ``wait`` returned, unchanged since, so that its elements need no check."""

    def done_of(self, refs: Sequence[ObjectRef[Any]]) -> list[ObjectRef[Any]]:
        """Those for which ``is_done`` is true, in order."""


class Actors(Protocol):
    """Actors, as the API finds and ends them."""

    def kill_actor(self, actor: ActorCore, no_restart: bool) -> None:
        """End the actor's process now."""

    def terminate_actor(self, actor: ActorCore) -> ObjectRef[Any]:
        """End the actor after the calls submitted so far (``__ray_terminate__``); the ref resolves to None."""

    def exit_actor(self) -> None:
        """End the current actor gracefully; only inside an actor. Does not return."""

    def get_named_actor(self, name: str, namespace: str | None) -> ActorCore:
        """Raises ValueError if there is no live actor of that name."""

    def own_actor(self) -> ActorCore:
        """The actor that runs here; only inside an actor."""


class Facts(Protocol):
    """What a session tells of itself."""

    def errors(self, job: str | None = None) -> list[dict[str, Any]]:
        """Failures of a job recorded so far, oldest first; None: of this process's job."""

    def nodes(self) -> list[dict[str, Any]]:
        """One dict per node: NodeID, Alive, Resources, …"""

    def cluster_resources(self) -> dict[str, float]:
        """Totals by name; memory in bytes."""

    def available_resources(self) -> dict[str, float]:
        """What is free now, by name."""

    def context(self) -> dict[str, Any]:
        """Where this code runs: the fields of ``RuntimeContext``, as far as they are known."""


class Runtime(Session, Work, Objects, Actors, Facts, Protocol):
    """A live session of this process."""

    address_info: dict[str, Any]
    is_worker: bool
    is_local_mode: bool

    def shutdown(self) -> None:
        """End the session; idempotent."""


#: The session of this process: read without a call where that counts.
_current: Runtime | None = None
#: What this process does for the runtime, where no program of the user's is to start a session; else empty.
own_process = ""


def set_current(runtime: Runtime | None) -> None:
    """Called by ``init``, ``shutdown`` and worker start only."""
    global _current
    _current = runtime
    session.set_current(runtime)


#: The functions of ``refs.session``, which holds the same session by its narrower type.
current = cast("Callable[[], Runtime | None]", session.current)
current_session = cast("Callable[[], Runtime]", session.current_session)
