"""What the node manager says of a demand that its node, and so the session, can never meet."""

from __future__ import annotations

from collections.abc import Mapping

from ray.protocol.resources import UNIT

_OPTIONS = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}


def lack_of(wanted: Mapping[str, int], total: Mapping[str, int], *, alone: bool = True) -> str:
    """What is missing and what to do, as a predicate; amounts are in units of the protocol.

    Args:
        wanted: what is needed.
        total: what this node has.
        alone: there are no others, and none can come.
    """
    lack = f"needs {amounts(wanted)}, which no node has (this one has {amounts(total)}): ask for less, or start "
    if alone:
        return f"{lack}the session with more resources, as with {_call(wanted, total)}"
    return f"{lack}a node that has as much: ray start --help"


def amounts(resources: Mapping[str, int]) -> dict[str, float]:
    """Units of the protocol as users give them."""
    return {name: amount / UNIT for name, amount in resources.items()}


def _call(wanted: Mapping[str, int], total: Mapping[str, int]) -> str:
    """The ``ray.init`` that gives as much of what there is too little of."""
    lacking = {name: amount for name, amount in wanted.items() if amount > total.get(name, 0)}
    # Of what has an option of its own there are whole ones only.
    given = [f"{_OPTIONS[name]}={-(-lacking.pop(name) // UNIT)}" for name in _OPTIONS if name in lacking]
    if lacking:
        given.append(f"resources={amounts(lacking)}")
    return f"ray.init({', '.join(given)})"
