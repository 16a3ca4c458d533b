"""The parts of a node of a cluster: those of them that the cluster decides are not chosen otherwise by anybody."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ray.config import gather
from ray.exceptions import RaySystemError
from ray.plugins.plan import PlannedPart, ResolvedPlan
from ray.plugins.planning import resolve_plan
from ray.plugins.seams import SEAMS

#: The control store of every cluster.
_CONTROL = "redis"


def cluster_plan(cluster: str, transport: str | None, control: Mapping[str, Any]) -> ResolvedPlan:
    """The plan of a node.

    Args:
        cluster: what says which transport it has, as the subject of a sentence.
        transport: that all nodes have; None: that which is chosen here.
        control: options of the control store.

    Raises:
        RaySystemError: the environment or the file has chosen something else.
        PluginError: a part does not exist, is not installed, or does not fit.
    """
    plan = resolve_plan(control=_CONTROL, transport=transport, options={"control": control})
    _refuse_others(plan.control, "A cluster")
    if transport is not None:
        _refuse_others(plan.transport, cluster)
    return plan


def _refuse_others(part: PlannedPart, cluster: str) -> None:
    seam = part.seam
    chosen = gather({each.name: each.env for each in SEAMS.values()}, {}, {}, None, os.environ, os.curdir).choices
    if seam in chosen and chosen[seam].value not in (part.name, part.module):
        value, source = chosen[seam].value, chosen[seam].source
        raise RaySystemError(
            f"{cluster} has {seam}={part.name!r}, which is the same on all its nodes, and {seam}={value!r} was "
            f"chosen here ({source}): leave that choice out."
        )
