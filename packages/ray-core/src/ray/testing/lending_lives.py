"""Random lives of node managers that lend each other workers, over connections that are slow and break: real tables,
shells and conversations, on a virtual clock.

Each message takes up to half a second, more where a part of it is lost and sent again; some come twice, the second time
behind later ones. At any time a connection is lost, with all that is under way on it; its ends hear of that sooner or
later, and one of them dials anew. At times an end does not know any more what was said. Workers and nodes die. Owners
of several jobs give back what others are to have, and want as much again. No worker ever has two owners; where all
wants have stayed the same for a while, the jobs share what is on loan; in the end nothing is lent, and nobody knows of
a lease that there is not.
"""

from __future__ import annotations

from ray.ids import node_number
from ray.testing.lending_world import World, time_of

#: The shares have to be even after so many looks, and in time stay so for some.
_LOOKS, _LOOK_S, _STAYS = 20, 2.0, 3


def live(seed: int) -> World:
    """One life.

    Raises:
        AssertionError: something does not hold.
    """
    world = World(seed)
    with time_of(world.clock):
        _live(world)
    return world


def _live(world: World) -> None:
    rng = world.rng
    for _ in range(rng.randint(10, 60)):
        world.passes(rng.choice([0.0, 0.001, 0.1, 1.0]))
        here = rng.choice(list(world.nodes.values()))
        match rng.choices(range(6), [6, 6, 4, 2, 0.3, 1])[0]:
            case 0:
                key = rng.randint(1, 3)
                here.want(key, max(here.wants[key], rng.randint(0, 6)))
            case 1 if here.held:
                here.give_back(rng.choice(list(here.held)))
            case 2:
                world.cut()
            case 3 if here.leases.by_worker:
                here.kill(rng.choice(list(here.leases.by_worker)), "it was killed")
            case 4 if len(world.nodes) > 2:
                world.kill(here)
            case 5 if here.clients:  # more was lost than is kept, or it was a message that could not be handled
                home = rng.choice(list(here.clients.values()))
                here.homes.end(home)
    even = 0
    for _ in range(_LOOKS):
        world.passes(_LOOK_S)
        even = 0 if world.uneven() else even + 1
        if even == _STAYS:
            break
    assert even, world.uneven()
    world.ends = True
    for here in world.nodes.values():
        for lease in here.held:
            there = world.nodes.get(node_number(lease))
            assert there is not None, f"{lease.hex()} is of a dead node, and its owner does not know"
            assert lease in there.leases.leases, f"{lease.hex()} has ended, and its owner does not know"
    for _ in range(40):
        world.passes(5.0)
        for here in world.nodes.values():
            for key in list(here.wants):
                here.want(key, 0)
            for lease in list(here.held):
                here.give_back(lease)
        if not any(here.held for here in world.nodes.values()):
            break
    world.passes(30.0)
    for here in world.nodes.values():
        assert not here.held
        assert not here.lent.lent, f"node {here.number} knows of leases that there are not"
        assert not here.leases.leases, (
            f"node {here.number} has lent {len(here.leases.leases)} workers, and nobody knows"
        )
        here.lent.tick(world.clock.now)
        assert not here.lent.loans
        assert here.leases.resources.available() == here.leases.resources.total()
    assert not world.refused, world.refused
