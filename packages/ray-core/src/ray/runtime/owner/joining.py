"""How a process's plugins are told of its session."""

from __future__ import annotations

from typing import Any

from ray.runtime.owner.here import OwnerBase
from ray.serialization import register_reducer


class PluginLife(OwnerBase):
    """The plugin methods of an owner."""

    def join_plugins(self) -> None:
        """The runtime takes calls: register the plugins' serializers and tell the plugins."""
        for cls, reducer in self.composition.serializers():
            register_reducer(cls, reducer)
        self.composition.lifecycle("runtime_started", self._plugin_info())

    def leave_plugins(self) -> None:
        """The runtime is about to stop."""
        self.composition.lifecycle("runtime_stopping", self._plugin_info())

    def _plugin_info(self) -> dict[str, Any]:
        return {
            "session_id": self.session_id,
            "node_id": self.node_id,
            "kind": "worker" if self.is_worker else "driver",
            "address": self.address,
        }
