"""How a process's plugins are told of its session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.plugins.compose import Composition
from ray.serialization import register_reducer


class PluginLife:
    """The plugins of one process."""

    def __init__(self, composition: Composition, facts: Callable[[], dict[str, Any]]) -> None:
        """Make one.

        Args:
            composition: the session's.
            facts: what plugins are told of the process: session_id, node_id, kind, address.
        """
        self._composition = composition
        self._facts = facts

    def join(self) -> None:
        """The runtime takes calls: register the plugins' serializers and tell the plugins."""
        for cls, reducer in self._composition.serializers():
            register_reducer(cls, reducer)
        self._composition.lifecycle("runtime_started", self._facts())

    def leave(self) -> None:
        """The runtime is about to stop."""
        self._composition.lifecycle("runtime_stopping", self._facts())
