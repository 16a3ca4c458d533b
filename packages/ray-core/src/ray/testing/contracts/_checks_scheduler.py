"""What every scheduling policy must do. Each check takes a ``SchedulerSubject``."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from ray.abc.scheduler import NodeView, ResourceRequest, SchedulerPolicy
from ray.testing.contracts._expect import expect, expect_equal

#: Fixed-point amount of one CPU.
ONE = 10_000


@dataclass(frozen=True)
class SchedulerSubject:
    """A way to make policies, all with the same options."""

    make: Callable[[], SchedulerPolicy]


Check: TypeAlias = Callable[[SchedulerSubject], None]


def a_node(number: int, free_cpus: float, cpus: float = 4, *, is_local: bool = False, **free: float) -> NodeView:
    """A node with ``free`` custom resources, of which nothing is taken."""
    custom = {name: int(amount * ONE) for name, amount in free.items()}
    total = MappingProxyType({"CPU": int(cpus * ONE), **custom})
    available = MappingProxyType({"CPU": int(free_cpus * ONE), **custom})
    return NodeView(number.to_bytes(8, "big"), total, available, is_local)


def a_request(**amounts: float) -> ResourceRequest:
    """A request of so many units by name."""
    return ResourceRequest(MappingProxyType({name: int(amount * ONE) for name, amount in amounts.items()}))


def has_room(request: ResourceRequest, node: NodeView) -> bool:
    """Whether every amount asked for is free."""
    return all(not amount or node.available.get(name, 0) >= amount for name, amount in request.resources.items())


def situations(count: int = 300) -> Iterator[tuple[ResourceRequest, list[NodeView]]]:
    """Random, but always the same, requests and clusters."""
    chance = random.Random(7)
    for _ in range(count):
        nodes = []
        for number in range(chance.randrange(7)):
            cpus = chance.choice((1, 2, 4, 8))
            custom = {"GPU": chance.choice((0, 0.5, 1, 2)), "disk": chance.randrange(3)}
            nodes.append(a_node(number, cpus - chance.randrange(cpus + 2), cpus, is_local=number == 0, **custom))
        chance.shuffle(nodes)
        amounts = {"CPU": chance.choice((0, 0.1, 0.5, 1, 2)), "GPU": chance.choice((0, 0, 0.5, 1))}
        if chance.random() < 0.2:
            amounts[chance.choice(("disk", "nowhere"))] = 1
        yield a_request(**amounts), nodes


def no_nodes_no_choice(subject: SchedulerSubject) -> None:
    expect_equal(subject.make().choose(a_request(CPU=1), []), None, "without nodes there is no choice")


def the_only_node_with_room_is_chosen(subject: SchedulerSubject) -> None:
    nodes = [a_node(1, 0, is_local=True), a_node(2, 1), a_node(3, 0.5)]
    seen = subject.make().choose(a_request(CPU=1), nodes)
    expect_equal(seen, nodes[1].node_id, "the only node with room is chosen, to the last unit")


def full_nodes_are_not_chosen(subject: SchedulerSubject) -> None:
    policy = subject.make()
    nodes = [a_node(1, 0, is_local=True), a_node(2, -1), a_node(3, 0.9999)]
    expect_equal(policy.choose(a_request(CPU=1), nodes), None, "nodes without room are not chosen")
    expect_equal(policy.choose(a_request(CPU=0.1, nowhere=1), nodes), None, "a resource that no node has is nowhere")
    seen = policy.choose(a_request(gadget=1, CPU=0.5), [a_node(1, 4, is_local=True), a_node(2, 1, gadget=1)])
    expect_equal(seen, (2).to_bytes(8, "big"), "custom resources count")


def nothing_is_free_everywhere(subject: SchedulerSubject) -> None:
    policy = subject.make()
    for request in (a_request(), a_request(CPU=0)):
        seen = policy.choose(request, [a_node(1, -1, is_local=True)])
        expect_equal(seen, (1).to_bytes(8, "big"), "a request for nothing fits on any node, even an overloaded one")


def whoever_has_room_is_found(subject: SchedulerSubject) -> None:
    policy = subject.make()
    for request, nodes in situations():
        roomy = {node.node_id for node in nodes if has_room(request, node)}
        seen = policy.choose(request, nodes)
        where = f"{dict(request.resources)} on {[(n.node_id.hex(), dict(n.available)) for n in nodes]}"
        if seen is None:
            expect(not roomy, f"a node is chosen if any has room: {where}")
        else:
            expect(seen in roomy, f"the chosen node has room: {where}")


def the_same_input_gives_the_same_answer(subject: SchedulerSubject) -> None:
    policy = subject.make()
    cases = list(situations())
    first = [policy.choose(request, nodes) for request, nodes in cases]
    again = [policy.choose(request, nodes) for request, nodes in reversed(cases)]
    expect_equal(again[::-1], first, "the same input gives the same answer, whatever was asked before")
    random.seed(1)
    another = subject.make()
    expect_equal([another.choose(r, n) for r, n in cases], first, "every instance gives the same answer")


def the_input_is_not_changed(subject: SchedulerSubject) -> None:
    policy = subject.make()
    for request, nodes in situations(100):
        asked = ResourceRequest(dict(request.resources))
        shown = [NodeView(n.node_id, dict(n.total), dict(n.available), n.is_local) for n in nodes]
        before = copy.deepcopy((asked, shown))
        policy.choose(asked, shown)
        expect_equal((asked, shown), before, "choose leaves its arguments as they are")


def many_nodes_are_no_problem(subject: SchedulerSubject) -> None:
    nodes = [a_node(number, 0) for number in range(5000)] + [a_node(5000, 4)]
    seen = subject.make().choose(a_request(CPU=1), nodes)
    expect_equal(seen, nodes[-1].node_id, "the only node with room is found among thousands")


REQUIRED: tuple[Check, ...] = (
    no_nodes_no_choice,
    the_only_node_with_room_is_chosen,
    full_nodes_are_not_chosen,
    nothing_is_free_everywhere,
    whoever_has_room_is_found,
    the_same_input_gives_the_same_answer,
    the_input_is_not_changed,
    many_nodes_are_no_problem,
)
