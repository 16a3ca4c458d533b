"""How the system is put together: hooks, the plugins that implement them, and the plan that names the chosen ones.

A plugin needs ``hookimpl``, ``PluginInfo`` and ``PLUGIN_API`` from here, and the interfaces of ``ray.abc``.
"""

from ray.plugins.compose import Composition
from ray.plugins.discovery import foreign_owners
from ray.plugins.plan import PlannedPart, ResolvedPlan
from ray.plugins.planning import resolve_plan
from ray.plugins.specs import PLUGIN_API, Command, EventSink, PluginInfo, hookimpl

__all__ = [
    "PLUGIN_API",
    "Command",
    "Composition",
    "EventSink",
    "PlannedPart",
    "PluginInfo",
    "ResolvedPlan",
    "foreign_owners",
    "hookimpl",
    "resolve_plan",
]
