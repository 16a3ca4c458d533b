"""Scheduling policies: ``hybrid`` (pack, then spread) and ``spread``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ray.abc.scheduler import NodeView, ResourceRequest, SchedulerPolicy


class HybridPolicy(SchedulerPolicy):
    """Fills the local node to a threshold, then other nodes to the threshold, then whichever is least used.

    How much a node is used is the share of its scarcest resource that would be taken with the request on it. Ties go to
    the local node, then to the smallest node id. Requests that want to be spread go as with ``SpreadPolicy``.
    """

    name = "hybrid"

    def __init__(self, threshold: float = 0.5) -> None:
        """Make a policy.

        Args:
            threshold: use, from 0 to 1, up to which a node is packed; 0 spreads from the start.
        """
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be between 0 and 1, not {threshold!r}")
        self._threshold = threshold

    def choose(self, request: ResourceRequest, nodes: Sequence[NodeView]) -> bytes | None:
        if request.spread:
            return least_used(request, nodes)
        best: tuple[float, bool, bytes] | None = None
        for node in nodes:
            if _fits(request.resources, node.available):
                use = _use(request.resources, node)
                rank = (use if use > self._threshold else 0.0, not node.is_local, node.node_id)
                if best is None or rank < best:
                    best = rank
        return best and best[2]


class SpreadPolicy(SchedulerPolicy):
    """Takes the least used node with room; ties go to the one with the fewest workers, then to the smallest node id."""

    name = "spread"

    def choose(self, request: ResourceRequest, nodes: Sequence[NodeView]) -> bytes | None:
        return least_used(request, nodes)


def least_used(request: ResourceRequest, nodes: Sequence[NodeView]) -> bytes | None:
    """The node that is used least of those with room."""
    roomy = (node for node in nodes if _fits(request.resources, node.available))
    ranks = ((_use(request.resources, node), node.leased, node.node_id) for node in roomy)
    return min(ranks, default=(0.0, 0, None))[2]


def _fits(request: Mapping[str, int], available: Mapping[str, int]) -> bool:
    return all(amount <= 0 or available.get(name, 0) >= amount for name, amount in request.items())


def _use(request: Mapping[str, int], node: NodeView) -> float:
    """The share of the node's scarcest resource that is taken once the request is placed there."""
    use = 0.0
    for name, total in node.total.items():
        if total > 0:
            taken = total - node.available.get(name, 0) + request.get(name, 0)
            use = max(use, taken / total)
    return use
