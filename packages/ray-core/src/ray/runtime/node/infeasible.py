"""What the node manager says of a demand that no node can meet, as things are: what is wanted, and the nearest miss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ray.abc.scheduler import NodeView
from ray.ids import node_of
from ray.messages.placement import LabelRule, Placement
from ray.protocol.placement import nearest
from ray.protocol.resources import UNIT

_OPTIONS = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
#: Nodes that a message names.
_MAX_NAMED = 8


def lack_of(
    wanted: Mapping[str, int],
    placement: Placement | None,
    nodes: Sequence[NodeView],
    cause: str = "",
    *,
    alone: bool = True,
) -> str:
    """What is missing and what to do, as a predicate; amounts are in units of the protocol.

    Args:
        wanted: what is needed.
        placement: where.
        nodes: all that there are, this one first.
        cause: of the death of the node where it is to run, if that is known.
        alone: there are no others, and none can come.
    """
    found = nearest(placement, wanted, nodes)
    if found is None:
        assert placement is not None
        why = f"which has died: {cause}" if cause else "which is not there"
        return f"is to run on the node {placement.node}, {why}; {_named(nodes)}{_similar(placement.node, nodes)}"
    node, wrong, lack = found
    misses = f"{title(node)}, {' and '.join(_misses(wanted, node, wrong, lack))}"
    if placement is not None and placement.node and not placement.soft:
        return f"is to run on the node {misses}"
    if placement is not None and placement.labels:
        rules = " and ".join(map(_rule, placement.labels))
        return f"needs {amounts(wanted)} on a node with {rules}, which no node has; the nearest is {misses}"
    if alone:
        help = f"this one has {amounts(node.total)}): ask for less, or start the session with more resources, as with "
        return f"needs {amounts(wanted)}, which no node has ({help}{_call(wanted, node.total)}"
    help = f"{_most(wanted, lack, node, nodes)}): ask for less, or start a node that has as much: ray start --help"
    return f"needs {amounts(wanted)}, which no node has ({help}"


def amounts(resources: Mapping[str, int]) -> dict[str, float]:
    """Units of the protocol as users give them."""
    return {name: amount / UNIT for name, amount in resources.items()}


def title(node: NodeView) -> str:
    """How messages name a node."""
    number = node_of(node.node_id).hex()
    return f"{node.name} ({number})" if node.name else number


def _named(nodes: Iterable[NodeView]) -> str:
    titles = [title(node) for node in nodes]
    more = f" and {len(titles) - _MAX_NAMED} more" if len(titles) > _MAX_NAMED else ""
    return f"there {'is' if len(titles) == 1 else 'are'} {', '.join(titles[:_MAX_NAMED])}{more}"


def _similar(name: str, nodes: Iterable[NodeView]) -> str:
    """The node that may be meant, if the name of one is much like that."""
    import difflib  # only where there is something to say

    near = difflib.get_close_matches(name, [node.name for node in nodes if node.name], n=1)
    return f"; the name that comes nearest is {near[0]}" if near else ""


def _misses(
    wanted: Mapping[str, int], node: NodeView, wrong: Iterable[LabelRule], lack: Mapping[str, int]
) -> list[str]:
    found = []
    for rule in wrong:
        value = node.labels.get(rule.name)
        found.append(f"which has {'no label ' + rule.name if value is None else f'the label {rule.name}={value}'}")
    if lack:
        needs = {name: wanted[name] for name in lack}
        found.append(f"which has {amounts(lack)} of the {amounts(needs)} that it needs")
    return found


def _rule(rule: LabelRule) -> str:
    if None in rule.values:
        return f"{'a' if rule.none_of else 'no'} label {rule.name}"
    values = " or ".join(value for value in rule.values if value is not None)
    return f"another label {rule.name} than {values}" if rule.none_of else f"the label {rule.name}={values}"


def _most(wanted: Mapping[str, int], lack: Mapping[str, int], node: NodeView, nodes: Iterable[NodeView]) -> str:
    """The most that there is of what is nowhere enough, and the node that has most of it together."""
    everywhere = {name: max(each.total.get(name, 0) for each in nodes) for name in lack}
    short = {name: most for name, most in everywhere.items() if most < wanted[name]}
    near = f"the nearest is {title(node)}, with {amounts({name: node.total.get(name, 0) for name in wanted})}"
    return f"the most any node has is {amounts(short)}; {near}" if short else near


def _call(wanted: Mapping[str, int], total: Mapping[str, int]) -> str:
    """The ``ray.init`` that gives as much of what there is too little of."""
    lacking = {name: amount for name, amount in wanted.items() if amount > total.get(name, 0)}
    # Of what has an option of its own there are whole ones only.
    given = [f"{_OPTIONS[name]}={-(-lacking.pop(name) // UNIT)}" for name in _OPTIONS if name in lacking]
    if lacking:
        given.append(f"resources={amounts(lacking)}")
    return f"ray.init({', '.join(given)})"
