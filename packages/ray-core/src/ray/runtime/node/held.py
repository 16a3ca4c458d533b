"""What the node manager says of a demand that waits for what actors hold for as long as they live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ray.runtime.node.infeasible import amounts

#: The type of records that tell so.
HELD = "held_by_actors"
_SHOWN_CLASSES = 3


def held_by_actors(
    name: str, wanted: Mapping[str, int], total: Mapping[str, int], holders: Sequence[tuple[str, Mapping[str, int]]]
) -> str:
    """A sentence where a demand waits for the end of an actor, and of nothing else; empty where it does not.

    Args:
        name: of the task or actor that waits.
        wanted: what it needs, in units of the protocol.
        total: what the node has.
        holders: each actor's class, and what it holds.
    """
    held: Counter[str] = Counter()
    for _, resources in holders:
        held.update(resources)
    lacking = [what for what, amount in wanted.items() if total.get(what, 0) - held[what] < amount]
    if not lacking:
        return ""
    what = lacking[0]
    classes = Counter(cls for cls, resources in holders if resources.get(what))
    shown = ", ".join(f"{count} {cls}" for cls, count in classes.most_common(_SHOWN_CLASSES))
    more = ", …" if len(classes) > _SHOWN_CLASSES else ""
    numbers = {each: amounts(of)[what] for each, of in (("held", held), ("total", total), ("wanted", wanted))}
    numbers["held"] = min(numbers["held"], numbers["total"])  # a waiting task lends its own, for a time
    return (
        f"{name or 'A task'} waits for {what} {numbers['wanted']:g}: actors hold {numbers['held']:g} of "
        f"{numbers['total']:g} for as long as they live ({shown}{more}). It goes on when one of them ends; actors that "
        "share a CPU with others can be given num_cpus=0."
    )
