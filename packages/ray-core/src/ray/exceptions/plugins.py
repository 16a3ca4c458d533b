"""Errors of plugins and their choice."""

from __future__ import annotations

from ray.exceptions.base import RayError


class PluginError(RayError):
    """Base of what can go wrong with plugins. Takes the whole sentence; ``seam`` and ``plugin`` name the parts."""

    def __init__(self, message: str = "", *, seam: str = "", plugin: str = "") -> None:
        self.message, self.seam, self.plugin = message, seam, plugin
        super().__init__(message)


class PluginNotInstalledError(PluginError, ImportError):
    """The plugin is known but its package is not installed, or cannot be imported."""


class UnknownPluginError(PluginError, LookupError):
    """No plugin of that name exists."""


class AmbiguousPluginError(PluginError, LookupError):
    """Two distributions offer the same name."""


class PluginContractError(PluginError, TypeError):
    """A plugin does not do, or does not return, what its seam demands."""


class PluginOptionsError(PluginError, ValueError):
    """Options that the plugin does not accept."""


class IncompatiblePluginsError(PluginError, ValueError):
    """Chosen plugins do not work together, or not with this version."""
