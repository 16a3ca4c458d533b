"""Every hook of ray, and the records that a plugin author writes.

A plugin is a module (or any object with attributes) that holds one record named ``PLUGIN`` and functions marked with
``hookimpl``. Hooks build parts when a process starts; none is called on the path of a task, an object or a call.

Rules for implementations:

- Take the arguments by the names below; leave out those you do not need. Never give one a default: pluggy does not
  pass arguments that have defaults, so the default would always win. Composition refuses such a function.
- ``start_`` returns the owner of a server, ``open_`` a handle with ``close()``, ``make_`` an object that holds nothing
  of the operating system.
- Import what is heavy inside the hook, so that choosing another plugin costs nothing.

Example:
    A store in one module, entered as ``[project.entry-points."ray.store"]  traced = "ray_store_traced.plugin"``::

        from ray.plugins import PLUGIN_API, PluginInfo, hookimpl

        PLUGIN = PluginInfo(seam="store", name="traced", api=PLUGIN_API, summary="counts what is asked of it")

        @hookimpl
        def ray_start_store(session_dir, capacity_bytes): ...

        @hookimpl
        def ray_open_store(address): ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import pluggy

if TYPE_CHECKING:
    from ray.abc import ControlServer, ControlStore, Executor, SchedulerPolicy, Store, StoreServer, Transport
    from ray.abc.selector import ObjectSelector
    from ray.plugins.plan import ResolvedPlan

#: Version of the hooks and of the interfaces in ``ray.abc``. Raised when a plugin written for the last one would break.
PLUGIN_API = 2

hookspec = pluggy.HookspecMarker("ray")
hookimpl = pluggy.HookimplMarker("ray")


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """What a plugin says about itself; read when the plan is resolved, before any hook is called."""

    seam: str
    """``store``, ``transport``, ``scheduler``, ``selector``, ``control``, ``executor`` or ``observer``."""
    name: str
    """The name that users choose, equal to the name of the entry point."""
    api: int
    """The ``PLUGIN_API`` that the plugin was written for, as a literal number."""
    summary: str = ""
    """One line for ``ray plugins``."""
    capabilities: frozenset[str] = frozenset()
    """What it can do beyond the required interface; for stores see ``ray.abc.store``, for transports
    ``ray.plugins.seams``."""
    needs_store: frozenset[str] = frozenset()
    """Capabilities that the chosen store must have."""
    options: type[msgspec.Struct] | None = None
    """Options that users may give; hooks receive an instance. None: no options, hooks receive an empty mapping."""
    machine_options: frozenset[str] = frozenset()
    """Names of those that are about one machine, such as a directory; the rest is the same in a whole cluster."""
    capability_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """{capability: options} of a capability that it has with certain options only, which are not the defaults."""
    inner: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """{option: capabilities} for a transport that is made of others: each of these options names one, which must have
    these capabilities and be made of no others. A field ``<option>_options`` holds its options, beside the file's."""


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand of ``ray`` that a plugin brings."""

    name: str
    summary: str
    run: Callable[[Sequence[str]], int]
    """Called with the arguments after the name; returns the exit code."""


class EventSink(Protocol):
    """Receives task events in batches, on a thread that runs no task."""

    def write(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Take one batch, oldest first. May block; events are dropped, and counted, while it does."""

    def close(self) -> None:
        """Flush and release. Idempotent."""


# One provider: the chosen plugin of the seam. The first result wins.


@hookspec(firstresult=True)
def ray_start_control(options: Any, session_dir: str) -> ControlServer:
    """Start the control store; called once, in the head's node manager, which closes it."""
    raise NotImplementedError


@hookspec(firstresult=True)
def ray_open_control(options: Any, address: str) -> ControlStore:
    """Open a handle on the control store at ``address``; the caller closes it."""
    raise NotImplementedError


@hookspec(firstresult=True)
def ray_start_store(options: Any, session_dir: str, capacity_bytes: int) -> StoreServer:
    """Start the node's store; called once per node, in its node manager, which closes it."""
    raise NotImplementedError


@hookspec(firstresult=True)
def ray_open_store(options: Any, address: str) -> Store:
    """Open this process's handle on the node's store; the caller closes it."""
    raise NotImplementedError


@hookspec(firstresult=True)
def ray_open_transport(
    options: Any, session_dir: str, node: int, inner: Mapping[str, Callable[[], Transport]]
) -> Transport:
    """Open this process's transport; called after any fork, the caller closes it.

    ``node`` is the number of this process's node, 0 if it belongs to none. ``inner`` opens what the record names under
    ``inner``, by the name of the option: for a plugin that is made of others, which closes them.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def ray_make_scheduler(options: Any) -> SchedulerPolicy:
    """Make the policy that places leases; called once per node manager."""
    raise NotImplementedError


@hookspec(firstresult=True)
def ray_make_selector(options: Any, runtime: Any) -> ObjectSelector:
    """Make a selector over the objects of ``runtime``; called once per event loop."""
    raise NotImplementedError


@hookspec(firstresult=True)
def ray_make_executor(options: Any, max_concurrency: int, concurrency_groups: Mapping[str, int]) -> Executor:
    """Make what runs the calls of one worker process; called once its actor's class, or first task, is known."""
    raise NotImplementedError


# Any number contribute: every chosen plugin and every observer. Results are collected.


@hookspec
def ray_register_serializers() -> list[tuple[type, Callable[..., Any]]]:
    """Return ``(class, reducer)`` pairs for ``ray.serialization.register_reducer``; called once per process."""
    raise NotImplementedError


@hookspec
def ray_open_event_sink(session_dir: str) -> EventSink:
    """Open a sink for task events; called in the node manager, which closes it."""
    raise NotImplementedError


@hookspec
def ray_register_commands() -> list[Command]:
    """Return subcommands for the ``ray`` command line."""
    raise NotImplementedError


@hookspec
def ray_plan_resolved(plan: ResolvedPlan) -> None:
    """Told to the driver once its plan is made, before any part is built."""


@hookspec
def ray_runtime_started(info: Mapping[str, Any]) -> None:
    """Told to every driver and worker once its runtime takes calls."""


@hookspec
def ray_runtime_stopping(info: Mapping[str, Any]) -> None:
    """Told to every driver and worker before its runtime closes its parts."""


@hookspec
def ray_diagnostics(plan: ResolvedPlan) -> dict[str, Any]:
    """Return facts for ``ray doctor``, by name; must not start anything."""
    raise NotImplementedError
