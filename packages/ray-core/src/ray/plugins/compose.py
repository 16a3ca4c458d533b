"""Builds the parts of a plan through the hooks. The only module that calls a hook.

Nothing here runs on the path of a task: each part is built once per process and used directly from then on.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import pluggy

from ray.abc import ControlServer, ControlStore, Executor, SchedulerPolicy, Store, StoreServer, Transport
from ray.abc.selector import ObjectSelector
from ray.config import make_options
from ray.exceptions import PluginContractError, PluginNotInstalledError
from ray.plugins import specs
from ray.plugins.discovery import import_failure, info_of, load
from ray.plugins.installing import command_for
from ray.plugins.seams import SEAMS

if TYPE_CHECKING:
    from ray.plugins.plan import PlannedPart, ResolvedPlan

T = TypeVar("T")

_log = logging.getLogger("ray.plugins")


class Composition:
    """The plugins of one process, imported as they are needed.

    Made from a plan in every process of a session; may be made before a fork, since it holds modules only. Methods that
    build may be called from any thread, one at a time.
    """

    def __init__(self, plan: ResolvedPlan) -> None:
        self.plan = plan
        self._manager = pluggy.PluginManager("ray")
        self._manager.add_hookspecs(specs)
        #: {module path of the plan: imported plugin}
        self._loaded: dict[str, Any] = {}
        if os.environ.get("RAY_TRACE_PLUGINS"):
            self._manager.add_hookcall_monitoring(_trace_before, _trace_after)

    # --- parts with one provider --------------------------------------------------------------------------------------

    def start_control(self, session_dir: str) -> ControlServer:
        """Start the control store; the caller, the head's node manager, closes it."""
        return self._build(self.plan.control, "ray_start_control", ControlServer, session_dir=session_dir)

    def open_control(self, address: str) -> ControlStore:
        """Open a handle on the control store; the caller closes it."""
        return self._build(self.plan.control, "ray_open_control", ControlStore, address=address)

    def start_store(self, session_dir: str, capacity_bytes: int) -> StoreServer:
        """Start this node's store; the caller, its node manager, closes it."""
        return self._build(
            self.plan.store, "ray_start_store", StoreServer, session_dir=session_dir, capacity_bytes=capacity_bytes
        )

    def open_store(self, address: str) -> Store:
        """Open a handle on the node's store; the caller closes it.

        Raises:
            PluginContractError: the store lacks a capability that its record promised, and that others may rely on.
        """
        part = self.plan.store
        store = self._build(part, "ray_open_store", Store, address=address)
        lacking = sorted(set(part.capabilities) - store.capabilities)
        if lacking:
            store.close()
            raise _broken(part, f"promises {', '.join(lacking)} in its PLUGIN record, but the opened store lacks it")
        return store

    def open_transport(self, session_dir: str, node: int = 0) -> Transport:
        """Open this process's transport, after any fork; the caller closes it.

        Args:
            session_dir: of the session.
            node: the number of this process's node, 0 if it belongs to none.
        """
        return self._open_transport(self.plan.transport, session_dir, node)

    def import_inner(self, session_dir: str) -> None:
        """Have what the transport is made of imported, for processes that are forked later; nothing stays open."""
        for inner in self.plan.transport.inner.values():
            self._open_transport(inner, session_dir, 0).close()

    def _open_transport(self, part: PlannedPart, session_dir: str, node: int) -> Transport:
        inner = {role: partial(self._open_transport, inner, session_dir, node) for role, inner in part.inner.items()}
        return self._build(part, "ray_open_transport", Transport, session_dir=session_dir, node=node, inner=inner)

    def make_scheduler(self) -> SchedulerPolicy:
        """Make the placement policy."""
        return self._build(self.plan.scheduler, "ray_make_scheduler", SchedulerPolicy)

    def make_selector(self, runtime: Any, name: str | None = None) -> ObjectSelector:
        """Make a selector over the objects of ``runtime``: the plan's, or any other by its name; the caller closes it.

        Raises:
            PluginNotInstalledError: the plan has none, or the one asked for needs a package.
            PluginError: the one asked for does not exist, or does not fit.
        """
        part = self.plan.selector
        if name is not None and (part is None or part.name != name):
            from ray.plugins.discovery import scan
            from ray.plugins.resolve import additional_part

            part = additional_part(SEAMS["selector"], name, self.plan, scan(), info_of)
        if part is None:
            raise PluginNotInstalledError(
                f"no selector is in use: install one before ray.init: {command_for(SEAMS['selector'].known['epoll'])}",
                seam="selector",
            )
        return self._build(part, "ray_make_selector", ObjectSelector, runtime=runtime)

    def make_executor(self, name: str, max_concurrency: int, concurrency_groups: Mapping[str, int]) -> Executor:
        """Make the executor ``name`` of the plan, such as ``serial``, ``threads`` or ``asyncio``.

        An executor that the user chose for everything is made in its place.

        Raises:
            PluginNotInstalledError: the plan has none of that name.
        """
        return self._build(
            self.executor_part(name),
            "ray_make_executor",
            Executor,
            max_concurrency=max_concurrency,
            concurrency_groups=concurrency_groups,
        )

    def executor_part(self, name: str) -> PlannedPart:
        """The plugin that makes the executor ``name``.

        Raises:
            PluginNotInstalledError: the plan has none of that name.
        """
        part = self.plan.executor or self.plan.executors.get(name)
        if part is None:
            known = SEAMS["executor"].known.get(name)
            advice = f"; install it before ray.init: {command_for(known)}" if known else ""
            raise PluginNotInstalledError(
                f"executor={name!r} is not in this session's plan{advice}", seam="executor", plugin=name
            )
        return part

    # --- hooks to which every chosen plugin and observer may contribute -----------------------------------------------

    def serializers(self) -> list[tuple[type, Callable[..., Any]]]:
        """``(class, reducer)`` pairs of all plugins."""
        return [pair for pairs in self._collect("ray_register_serializers") for pair in pairs]

    def event_sinks(self, session_dir: str) -> list[specs.EventSink]:
        """Open the sinks of all plugins; the caller closes them."""
        return self._collect("ray_open_event_sink", session_dir=session_dir)

    def commands(self) -> list[specs.Command]:
        """Subcommands of all plugins."""
        return [command for commands in self._collect("ray_register_commands") for command in commands]

    def diagnostics(self) -> dict[str, Any]:
        """Facts of all plugins, by name."""
        facts: dict[str, Any] = {}
        for contribution in self._collect("ray_diagnostics", plan=self.plan):
            facts.update(contribution)
        return facts

    def lifecycle(
        self, event: Literal["plan_resolved", "runtime_started", "runtime_stopping"], info: Mapping[str, Any]
    ) -> None:
        """Tell every chosen plugin and observer. What one of them raises is logged and stops nothing."""
        told: dict[str, Any] = {"plan": self.plan} if event == "plan_resolved" else {"info": info}
        self._register_all()
        for name, plugin in self._manager.list_name_plugin():
            try:
                self._only(f"ray_{event}", plugin)(**told)
            except Exception:
                _log.exception("the plugin %s failed in ray_%s", name, event)

    def prepare(self, *, executors: bool = True) -> None:
        """Import every plugin of the plan now, so that forked children need not; with what their ``executors`` take."""
        self._register_all()
        if executors:
            for name in self.plan.executors:
                self.make_executor(name, 1, {})

    # --- machinery ----------------------------------------------------------------------------------------------------

    def _build(self, part: PlannedPart, hook: str, expected: Callable[..., T], **arguments: Any) -> T:
        """Call the hook of one plugin; ``expected`` is the interface, typed as a callable because it is abstract."""
        interface = cast("type[T]", expected)
        plugin = self._plugin(part)
        options = make_options(plugin.PLUGIN.options, part.options)
        try:
            built = self._only(hook, plugin)(options=options, **arguments)
        except ImportError as error:
            # Implementations are imported inside the hook: this is where a missing dependency shows.
            raise import_failure(part.candidate, error) from error
        if not isinstance(built, interface):
            raise _broken(part, f"returned {type(built).__name__} from {hook}, not a ray.abc.{interface.__name__}")
        return built

    def _collect(self, hook: str, **arguments: Any) -> list[Any]:
        self._register_all()
        results: list[Any] = getattr(self._manager.hook, hook)(**arguments)
        return results

    def _only(self, hook: str, plugin: Any) -> Callable[..., Any]:
        """The hook as implemented by one plugin: several may be registered, such as two executors."""
        others = [other for other in self._manager.get_plugins() if other is not plugin]
        return self._manager.subset_hook_caller(hook, others)

    def _register_all(self) -> None:
        """Everything that runs in every process; an executor joins only where it is made."""
        for part in (*self.plan.parts.values(), *self.plan.observers):
            self._plugin(part)

    def _plugin(self, part: PlannedPart) -> Any:
        plugin = self._loaded.get(part.module)
        if plugin is None:
            info_of(part.candidate)  # The plan may come from another process: check again what is imported here.
            plugin = load(part.candidate)
            if not self._manager.is_registered(plugin):  # It is, where two paths lead to one plugin.
                self._register(part, plugin)
            self._loaded[part.module] = plugin
            for inner in part.inner.values():
                self._plugin(inner)
        return plugin

    def _register(self, part: PlannedPart, plugin: Any) -> None:
        fault = self._fault(part, plugin)
        if fault:
            # A refused plugin must not answer when another one is asked. pluggy may have dropped it already.
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            raise _broken(part, fault)

    def _fault(self, part: PlannedPart, plugin: Any) -> str:
        """Register with pluggy; returns what is wrong with the plugin's hooks, or an empty string."""
        try:
            self._manager.register(plugin, name=f"{part.seam}:{part.name}")
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            return f"has a hook that does not fit: {' '.join(str(error).split())}"
        callers = self._manager.get_hookcallers(plugin) or []
        for caller in callers:
            for implementation in caller.get_hookimpls():
                if implementation.plugin is plugin and implementation.kwargnames:
                    given = ", ".join(implementation.kwargnames)
                    return f"has defaults for {given} in {caller.name}; pluggy would never pass them"
        required = SEAMS[part.seam].hooks if part.seam in SEAMS else ()
        missing = sorted(set(required) - {caller.name for caller in callers})
        return f"does not implement {', '.join(missing)}" if missing else ""


def _broken(part: PlannedPart, what: str) -> PluginContractError:
    return PluginContractError(f"{part.subject} ({part.candidate.origin}) {what}", seam=part.seam, plugin=part.name)


def _trace_before(hook: str, implementations: Any, arguments: Mapping[str, Any]) -> None:
    names = ", ".join(sorted(arguments))
    print(f"ray: pid {os.getpid()}: {hook}({names}) …", file=sys.stderr)


def _trace_after(outcome: Any, hook: str, implementations: Any, arguments: Mapping[str, Any]) -> None:
    told = type(outcome.exception).__name__ if outcome.exception is not None else repr(outcome.get_result())
    print(f"ray: pid {os.getpid()}: {hook} -> {told}", file=sys.stderr)
