"""Where to run, as later releases of Ray say it: ``ray.util.scheduling_strategies`` has these names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from ray.config.encoding import lone_surrogate
from ray.messages.placement import LabelRule


class LabelMatch:
    """What the label of a node has to be. One of the classes below."""

    __slots__ = ("none_of", "values")

    def __init__(self, values: tuple[str | None, ...], none_of: bool) -> None:
        self.values = values
        self.none_of = none_of

    def rule(self, name: str) -> LabelRule:
        """The same of the label ``name``."""
        return LabelRule(name, self.values, self.none_of)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(repr(value) for value in self.values if value is not None)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelMatch) and (other.values, other.none_of) == (self.values, self.none_of)

    def __hash__(self) -> int:
        return hash((self.values, self.none_of))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(value for value in self.values if value is not None)


class In(LabelMatch):
    """One of these values."""

    def __init__(self, *values: str) -> None:
        super().__init__(_checked("In", values), none_of=False)


class NotIn(LabelMatch):
    """None of these values; no such label at all will do."""

    def __init__(self, *values: str) -> None:
        super().__init__(_checked("NotIn", values), none_of=True)


class Exists(LabelMatch):
    """Any value."""

    def __init__(self) -> None:
        super().__init__((None,), none_of=True)


class DoesNotExist(LabelMatch):
    """The node has no such label."""

    def __init__(self) -> None:
        super().__init__((None,), none_of=False)


class NodeAffinitySchedulingStrategy:
    """``node=`` and ``soft=`` of a task or an actor."""

    def __init__(
        self,
        node_id: str,
        soft: bool,
        _spill_on_unavailable: bool = False,
        _fail_on_unavailable: bool = False,
    ) -> None:
        """Say where to run.

        Args:
            node_id: as ``ray.nodes()`` gives it; a name of a node will do.
            soft: run elsewhere if there is no such node.

        Raises:
            ValueError: for what another release has and this one has not.
        """
        if _spill_on_unavailable or _fail_on_unavailable:
            raise ValueError(
                "_spill_on_unavailable and _fail_on_unavailable are not in this release: what finds no room on its "
                "node waits for it."
            )
        self.node_id = node_id
        self.soft = soft

    def __repr__(self) -> str:
        return f"NodeAffinitySchedulingStrategy(node_id={self.node_id!r}, soft={self.soft!r})"


class NodeLabelSchedulingStrategy:
    """``labels=`` of a task or an actor: what has to be, and what would be better."""

    def __init__(
        self, hard: Mapping[str, LabelMatch] | None = None, *, soft: Mapping[str, LabelMatch] | None = None
    ) -> None:
        """Say where to run.

        Args:
            hard: matches by the names of labels: In, NotIn, Exists or DoesNotExist.
            soft: the same; counts if there is such a node.

        Raises:
            ValueError: none is given.
            TypeError: one is no dictionary.
        """
        for name, labels in (("hard", hard), ("soft", soft)):
            if not isinstance(labels, Mapping | None):
                raise TypeError(
                    f"{name} must be a dictionary of In(...) and the like by names of labels, not {labels!r}"
                )
        if not (hard or soft):
            raise ValueError("NodeLabelSchedulingStrategy needs hard= or soft=")
        self.hard = dict(hard or {})
        self.soft = dict(soft or {})

    def __repr__(self) -> str:
        return f"NodeLabelSchedulingStrategy(hard={self.hard!r}, soft={self.soft!r})"


class PlacementGroupSchedulingStrategy:
    """Refused, with a sentence."""

    def __init__(self, *arguments: object, **named: object) -> NoReturn:
        raise ValueError(
            "Placement groups are not in this release. node=, labels= and resources= say where tasks and actors run, "
            "and scheduling_strategy='SPREAD' spreads them."
        )


def _checked(name: str, values: tuple[object, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError(f"{name}() needs one value of the label at least")
    return tuple(label_value(f"{name}(...)", value) for value in values)


def label_value(what: str, value: object) -> str:
    """A value of a label.

    Raises:
        TypeError: it is no text.
        ValueError: UTF-8 cannot encode it.
    """
    __tracebackhide__ = True
    if not isinstance(value, str):
        raise TypeError(f"{what}: the value of a label is a string, not {value!r} ({type(value).__name__})")
    lone = lone_surrogate(value)
    if lone:
        raise ValueError(f"{what}: {value!r} cannot be encoded in UTF-8, because of {lone}")
    return value if type(value) is str else str.__str__(value)
