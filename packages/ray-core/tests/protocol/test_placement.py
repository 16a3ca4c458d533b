"""Which nodes work may run on, and which comes nearest where none will do."""

from __future__ import annotations

import itertools
import random

import pytest

from ray.abc.scheduler import NodeView
from ray.messages.placement import LabelRule, Placement
from ray.protocol.placement import allows, candidates, fits, has, nearest
from ray.protocol.resources import UNIT

ONE = {"CPU": UNIT}


def a_node(number: int, name: str = "", gpus: int = 0, **labels: str) -> NodeView:
    total = {"CPU": 4 * UNIT, "GPU": gpus * UNIT}
    return NodeView(number.to_bytes(4, "big") + bytes(4 * (number % 2)), total, total, labels=labels, name=name)


NODES = [a_node(1, "head"), a_node(2, "a", 1, zone="a"), a_node(3, "b", 2, zone="b"), a_node(4, zone="b", kind="big")]


def chosen(placement: Placement | None, **needs: int) -> list[int]:
    wanted = {name: amount * UNIT for name, amount in needs.items()} or ONE
    return [int.from_bytes(node.node_id[:4], "big") for node in candidates(placement, wanted, NODES)]


def rule(name: str, *values: str | None, none_of: bool = False) -> tuple[LabelRule, ...]:
    return (LabelRule(name, values, none_of),)


@pytest.mark.parametrize(
    ("placement", "numbers"),
    [
        (None, [1, 2, 3, 4]),
        (Placement(spread=True), [1, 2, 3, 4]),
        (Placement("a"), [2]),
        (Placement("00000002"), [2]),
        (Placement("nowhere"), []),
        (Placement("nowhere", soft=True), [1, 2, 3, 4]),
        (Placement("b", soft=True), [3]),
        (Placement(labels=rule("zone", "a")), [2]),
        (Placement(labels=rule("zone", "a", "b")), [2, 3, 4]),
        (Placement(labels=rule("zone", "a", none_of=True)), [1, 3, 4]),
        (Placement(labels=rule("zone", None)), [1]),
        (Placement(labels=rule("zone", None, none_of=True)), [2, 3, 4]),
        (Placement(labels=rule("zone", "b") + rule("kind", "big")), [4]),
        (Placement("a", labels=rule("zone", "b")), []),
        (Placement("a", soft=True, labels=rule("zone", "b")), [3, 4]),
        (Placement(preferred=rule("zone", "c")), [1, 2, 3, 4]),
        (Placement(preferred=rule("kind", "big")), [4]),
        (Placement(labels=rule("zone", "a"), preferred=rule("kind", "big")), [2]),
    ],
)
def test_candidates(placement: Placement | None, numbers: list[int]) -> None:
    assert chosen(placement) == numbers


def test_a_node_that_has_too_little_is_none() -> None:
    assert chosen(None, GPU=2) == [3]
    assert chosen(Placement("a"), GPU=2) == []
    assert chosen(Placement("a", soft=True), GPU=2) == [3]
    assert chosen(Placement(preferred=rule("zone", "a")), GPU=2) == [3]
    assert chosen(None, CPU=5) == []


def test_the_nearest_lacks_least() -> None:
    found = nearest(None, {"GPU": 3 * UNIT}, NODES)
    assert found == (NODES[2], [], {"GPU": 2 * UNIT})
    found = nearest(Placement(labels=rule("zone", "c")), ONE, NODES)
    assert found is not None
    assert found[1:] == (list(rule("zone", "c")), {})
    assert nearest(Placement("a"), {"GPU": 3 * UNIT}, NODES) == (NODES[1], [], {"GPU": UNIT})
    assert nearest(Placement("nowhere"), ONE, NODES) is None
    assert nearest(Placement("nowhere", soft=True), {"CPU": 5 * UNIT}, NODES) is not None


@pytest.mark.parametrize("seed", range(100))
def test_what_is_chosen_fits_and_nothing_that_fits_better_is_left_out(seed: int) -> None:
    rng = random.Random(seed)
    labels = [dict(zip("xy", values, strict=True)) for values in itertools.product("abc", repeat=2)]
    nodes = [a_node(number, rng.choice(["n", ""]), rng.randint(0, 2), **rng.choice(labels)) for number in range(1, 6)]

    def rules() -> tuple[LabelRule, ...]:
        names = rng.sample("xyz", rng.randint(0, 2))
        return tuple(LabelRule(name, tuple(rng.sample(["a", "b", None], 2)), rng.random() < 0.5) for name in names)

    placement = Placement(rng.choice(["", "n", "00000003"]), rng.random() < 0.5, rules(), rules())
    needs = {"CPU": UNIT, "GPU": rng.randint(0, 2) * UNIT}
    found = candidates(placement, needs, nodes)
    allowed = [node for node in nodes if allows(placement, node) and has(node.total, needs)]
    hard = Placement(placement.node, labels=placement.labels + placement.preferred)
    liked = [node for node in allowed if allows(hard, node)]
    assert found == (liked or allowed)
    near = nearest(placement, needs, nodes)
    if allowed:
        assert near is not None
        assert (near[1], near[2]) == ([], {})
    elif near is not None:
        assert near[1] or near[2]
        assert not any(fits(wrong, near[0]) for wrong in near[1])
