"""What ``ray.init`` hands to a runtime: checked, in the runtime's own units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.plugins.plan import ResolvedPlan

DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class StartOptions:
    """A session on this machine. Amounts are fixed point (see ``RESOURCE_UNIT``); None is what the machine has."""

    plan: ResolvedPlan
    num_cpus: int | None = None
    num_gpus: int | None = None
    resources: Mapping[str, int] = field(default_factory=dict)
    """Custom resources by name."""
    memory_bytes: int | None = None
    """What tasks may ask for with ``memory=``."""
    object_store_bytes: int | None = None
    namespace: str = DEFAULT_NAMESPACE
    log_to_driver: bool = True
