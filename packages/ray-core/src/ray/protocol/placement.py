"""Which nodes a task or an actor may run on, by what it says of names and labels, and what a node lacks for it.

A wish counts where a node that meets it is there and has enough in all: it is waited for then. Else it does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ray.abc.scheduler import NodeView
from ray.ids import node_of
from ray.messages.placement import LabelRule, Placement


def candidates(placement: Placement | None, needs: Mapping[str, int], nodes: Iterable[NodeView]) -> list[NodeView]:
    """Those of ``nodes`` that may serve, if all they have were free; only those that meet the wishes, if any do."""
    able = [node for node in nodes if has(node.total, needs)]
    if placement is None:
        return able
    allowed = [node for node in able if allows(placement, node)]
    return [node for node in allowed if _prefers(placement, node)] or allowed


def has(amounts: Mapping[str, int], needs: Mapping[str, int]) -> bool:
    """Whether there is as much of everything; of what is not needed, there always is."""
    return all(amount <= 0 or amounts.get(name, 0) >= amount for name, amount in needs.items())


def allows(placement: Placement, node: NodeView) -> bool:
    """Whether a node is one of those that are demanded."""
    named = placement.soft or not placement.node or is_called(node, placement.node)
    return named and all(fits(rule, node) for rule in placement.labels)


def is_called(node: NodeView, name: str) -> bool:
    """Whether a node is meant by a number, as 8 hexadecimal digits, or a name."""
    return name in (node.name, node_of(node.node_id).hex())


def fits(rule: LabelRule, node: NodeView) -> bool:
    """Whether the label of a node is what a rule wants."""
    return (node.labels.get(rule.name) in rule.values) is not rule.none_of


def _prefers(placement: Placement, node: NodeView) -> bool:
    named = not (placement.soft and placement.node) or is_called(node, placement.node)
    return named and all(fits(rule, node) for rule in placement.preferred)


def nearest(
    placement: Placement | None, needs: Mapping[str, int], nodes: Sequence[NodeView]
) -> tuple[NodeView, list[LabelRule], dict[str, int]] | None:
    """Of the nodes with a demanded name, the one that lacks least: it, the labels that are not as wanted, and what it
    has of that of which it has too little. None: there is no node of the name.
    """
    found: list[tuple[int, float, int, tuple[NodeView, list[LabelRule], dict[str, int]]]] = []
    for node in nodes:
        if placement is None or placement.soft or not placement.node or is_called(node, placement.node):
            rules = () if placement is None else placement.labels
            wrong = [rule for rule in rules if not fits(rule, node)]
            lack = {name: node.total.get(name, 0) for name, amount in needs.items() if node.total.get(name, 0) < amount}
            far = sum(1 - held / needs[name] for name, held in lack.items())
            found.append((len(wrong) + len(lack), far, len(found), (node, wrong, lack)))
    return min(found)[3] if found else None
