"""Plugins that could be chosen, as metadata alone tells of them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Candidate(msgspec.Struct, frozen=True):
    """A plugin that could be chosen, known by its metadata only."""

    seam: str
    name: str
    target: str
    """``package.module`` or ``package.module:attribute``."""
    distribution: str = ""
    """Empty for a dotted path, whose distribution nobody asked."""
    version: str = ""

    @property
    def subject(self) -> str:
        """The choice as messages name it."""
        return f"{self.seam}={self.name!r}"

    @property
    def origin(self) -> str:
        """The distribution, or else the module, as messages name it."""
        return f"package {self.distribution!r} {self.version}" if self.distribution else f"module {self.target!r}"


class Inventory(msgspec.Struct, frozen=True):
    """The result of a scan."""

    #: {seam: {plugin name: what offers it}}; more than one offer is a conflict once the name is chosen.
    plugins: Mapping[str, Mapping[str, tuple[Candidate, ...]]] = msgspec.field(default_factory=dict)
    #: {normalised distribution name: version}
    versions: Mapping[str, str] = msgspec.field(default_factory=dict)
