"""Options that say on which nodes a task or an actor runs: checked, and turned into one record."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ray.api.strategies import (
    LabelMatch,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    label_value,
)
from ray.messages.placement import NAME_FORM, LabelRule, Placement

_FORM = re.compile(NAME_FORM)
_SHOWN_CHARS = 100
#: Options that together say where.
WHERE = ("node", "soft", "labels")
STRATEGY = "scheduling_strategy"


def merged(given: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Options with others changed: of the two ways to say where, the one that was used last counts."""
    if STRATEGY in more:
        given = {name: value for name, value in given.items() if name not in WHERE}
    elif not more.keys().isdisjoint(WHERE):
        given = {name: value for name, value in given.items() if name != STRATEGY}
    return {**given, **more}


def placement_of(given: Mapping[str, Any], check_name: Callable[[object, str], str]) -> Placement | None:
    """Where a task or an actor may run; None: anywhere.

    Args:
        given: its options.
        check_name: checks what names something.

    Raises:
        TypeError: a value of the wrong type.
        ValueError: a value that means nothing here, or options that contradict each other.
    """
    __tracebackhide__ = True
    if given.keys().isdisjoint((*WHERE, STRATEGY)):
        return None
    if STRATEGY in given:
        for name in WHERE:
            if name in given:
                raise ValueError(f"{STRATEGY}= and {name}= both say where to run: give one of them.")
        return _of_strategy(given[STRATEGY], check_name)
    soft = given.get("soft", False)
    if not isinstance(soft, bool):
        raise TypeError(f"soft must be True or False, not {soft!r}")
    node = _node("node", given["node"], check_name) if "node" in given else ""
    rules = _rules(given.get("labels", {}), check_name)
    if not (node or rules):
        if soft:
            raise ValueError("soft=True says that node= or labels= is only a wish: give one of them.")
        return None
    return Placement(node, soft and bool(node), () if soft else rules, rules if soft else ())


def _of_strategy(strategy: object, check_name: Callable[[object, str], str]) -> Placement | None:
    __tracebackhide__ = True
    if isinstance(strategy, str) and strategy in ("DEFAULT", "SPREAD"):
        return Placement(spread=True) if strategy == "SPREAD" else None
    if isinstance(strategy, NodeAffinitySchedulingStrategy):
        if not isinstance(strategy.soft, bool):
            raise TypeError(f"soft must be True or False, not {strategy.soft!r}")
        return Placement(_node("node_id", strategy.node_id, check_name), strategy.soft)
    if isinstance(strategy, NodeLabelSchedulingStrategy):
        rules = [_rules(labels, check_name, only_matches=True) for labels in (strategy.hard, strategy.soft)]
        return Placement(labels=rules[0], preferred=rules[1])
    raise ValueError(
        f"{STRATEGY} must be 'DEFAULT', 'SPREAD', a NodeAffinitySchedulingStrategy or a NodeLabelSchedulingStrategy, "
        f"not {strategy!r}"
    )


def _node(option: str, value: object, check_name: Callable[[object, str], str]) -> str:
    __tracebackhide__ = True
    if isinstance(value, bytes):
        raise TypeError(f"{option} is a NodeID as ray.nodes() gives it, or a name of a node: a string, not {value!r}")
    return _formed(check_name(value, "Node"), option)


def _rules(
    labels: object, check_name: Callable[[object, str], str], *, only_matches: bool = False
) -> tuple[LabelRule, ...]:
    __tracebackhide__ = True
    if not isinstance(labels, Mapping):
        raise TypeError(f"labels must be a dictionary of values by name, not {labels!r}")
    return tuple(
        sorted(
            (
                _rule(_formed(check_name(name, "Label"), "the name of a label"), value, only_matches)
                for name, value in labels.items()
            ),
            key=_name,
        )
    )


def _formed(name: str, what: str) -> str:
    """See that a node can have it."""
    __tracebackhide__ = True
    if not _FORM.fullmatch(name):
        shown = repr(name) if len(name) <= _SHOWN_CHARS else f"{name[:_SHOWN_CHARS]!r}…"
        raise ValueError(
            f"{what}: {shown} is no name that a node or a label can have: up to 63 letters, digits and . _ - / between "
            "letters or digits"
        )
    return name


def _name(rule: LabelRule) -> str:
    return rule.name


def _rule(name: str, value: object, only_matches: bool) -> LabelRule:
    __tracebackhide__ = True
    what = f"labels[{name!r}]"
    if isinstance(value, LabelMatch):
        return value.rule(name)
    if only_matches:
        raise TypeError(f"{what} must be In(...), NotIn(...), Exists() or DoesNotExist(), not {value!r}")
    if isinstance(value, (list, tuple, set, frozenset)):
        if not value:
            raise ValueError(f"{what} must name a value at least")
        return LabelRule(name, tuple(sorted(label_value(what, each) for each in value)))
    return LabelRule(name, (label_value(what, value),))
