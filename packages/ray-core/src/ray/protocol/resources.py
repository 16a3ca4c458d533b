"""Resource accounting of one node: pure, exact, with concrete GPU instances.

Amounts are fixed-point integers (one CPU is ``UNIT``), so that tenths add up exactly. What is free may be negative: a
worker that was blocked takes its CPU back without asking (``NodeResources.reacquire_cpu``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

UNIT = 10_000
CPU = "CPU"
GPU = "GPU"


class ResourceSet:
    """Amounts by name. A name that is absent counts as zero; amounts may be negative."""

    __slots__ = ("_amounts",)

    def __init__(self, amounts: Mapping[str, int] | None = None) -> None:
        #: {resource name: fixed-point amount}
        self._amounts: dict[str, int] = dict(amounts or {})

    def __getitem__(self, name: str) -> int:
        return self._amounts.get(name, 0)

    def __repr__(self) -> str:
        return f"ResourceSet({self._amounts!r})"

    def fits(self, request: Mapping[str, int]) -> bool:
        """Whether every amount asked for is there; asking for zero always fits."""
        have = self._amounts
        return all(amount <= 0 or have.get(name, 0) >= amount for name, amount in request.items())

    def add(self, amounts: Mapping[str, int]) -> None:
        """Add each amount."""
        have = self._amounts
        for name, amount in amounts.items():
            have[name] = have.get(name, 0) + amount

    def subtract(self, amounts: Mapping[str, int]) -> None:
        """Subtract each amount, below zero if need be."""
        have = self._amounts
        for name, amount in amounts.items():
            have[name] = have.get(name, 0) - amount

    def to_dict(self) -> dict[str, int]:
        """A copy, zeros included."""
        return dict(self._amounts)


class Allocation:
    """What one lease holds on a node. Made by ``NodeResources``; identity is its only equality."""

    __slots__ = ("_cpu_lent", "_held", "_shares", "resources")

    def __init__(self, resources: dict[str, int], shares: dict[str, int]) -> None:
        self.resources: Mapping[str, int] = resources
        """What was granted, without zeros. ``release_cpu`` does not change it, ``shrink`` does."""
        #: {GPU id: fixed-point share of it}, in order of grant
        self._shares = shares
        self._cpu_lent = False
        self._held = True

    def __repr__(self) -> str:
        state = ("blocked " if self._cpu_lent else "") if self._held else "released "
        return f"<{state}Allocation {dict(self.resources)!r} gpu_ids={self.gpu_ids!r}>"

    @property
    def gpu_ids(self) -> tuple[str, ...]:
        """The GPUs that the holder may see, whole and shared ones alike."""
        return tuple(self._shares)

    @property
    def held(self) -> bool:
        """False once it was released."""
        return self._held


class NodeResources:
    """Total, free and granted resources of one node. Not thread-safe.

    A whole GPU is given only where nobody holds a part of it; a fraction goes to the fullest GPU with room, so that
    whole ones stay whole. Every method that gives something back is idempotent.
    """

    __slots__ = ("_available", "_gpu_capacity", "_gpu_free", "_total")

    def __init__(self, total: Mapping[str, int], gpu_ids: Sequence[str] = ()) -> None:
        """Start with everything free.

        Args:
            total: fixed-point amounts by name.
            gpu_ids: what ``CUDA_VISIBLE_DEVICES`` would name, best first. Surplus ids stay unused; where there are
                fewer ids than GPUs, the rest are named by their index.

        Raises:
            ValueError: an amount is negative, or an id occurs twice.
        """
        _check(total)
        self._total = ResourceSet(total)
        self._available = ResourceSet(total)
        #: {GPU id: fixed-point capacity}; only the last one can be below UNIT
        self._gpu_capacity: dict[str, int] = dict(_slots(total.get(GPU, 0), gpu_ids))
        #: {GPU id: fixed-point share nobody holds}; same keys and order as the capacities
        self._gpu_free: dict[str, int] = dict(self._gpu_capacity)

    def total(self) -> dict[str, int]:
        """Totals by name."""
        return self._total.to_dict()

    def available(self) -> dict[str, int]:
        """What is free by name; negative while more runs than there is room for."""
        return self._available.to_dict()

    def feasible(self, request: Mapping[str, int]) -> bool:
        """Whether the request would fit if nothing were granted."""
        return self._total.fits(request) and _pick(self._gpu_capacity, request.get(GPU, 0)) is not None

    def try_acquire(self, request: Mapping[str, int]) -> Allocation | None:
        """Grant all of the request, or nothing and return None.

        Raises:
            ValueError: an amount is negative.
        """
        _check(request)
        if not self._available.fits(request):
            return None
        shares = _pick(self._gpu_free, request.get(GPU, 0))
        if shares is None:
            return None
        resources = {name: amount for name, amount in request.items() if amount}
        self._available.subtract(resources)
        for gpu_id, share in shares.items():
            self._gpu_free[gpu_id] -= share
        return Allocation(resources, shares)

    def release(self, allocation: Allocation) -> None:
        """Take everything back that the holder still has."""
        if not allocation._held:
            return
        self.reacquire_cpu(allocation)
        allocation._held = False
        self._available.add(allocation.resources)
        for gpu_id, share in allocation._shares.items():
            self._gpu_free[gpu_id] += share

    def release_cpu(self, allocation: Allocation) -> None:
        """The holder blocks: take back its CPU, leave it everything else."""
        if allocation._held and not allocation._cpu_lent:
            allocation._cpu_lent = True
            self._available.add({CPU: allocation.resources.get(CPU, 0)})

    def reacquire_cpu(self, allocation: Allocation) -> None:
        """The holder runs again and has its CPU back at once, even if that makes the free amount negative."""
        if allocation._held and allocation._cpu_lent:
            allocation._cpu_lent = False
            self._available.subtract({CPU: allocation.resources.get(CPU, 0)})

    def shrink(self, allocation: Allocation, resources: Mapping[str, int]) -> None:
        """Take back the difference to ``resources``: an actor needs less to live than to be placed.

        Raises:
            ValueError: ``resources`` asks for more than is held, or for another number of GPUs.
        """
        _check(resources)
        held = allocation.resources
        if resources.get(GPU, 0) != held.get(GPU, 0):
            raise ValueError(f"a lease keeps its GPUs: it holds {held.get(GPU, 0)}, not {resources.get(GPU, 0)}")
        if not ResourceSet(held).fits(resources):
            raise ValueError(f"cannot shrink {dict(held)} to {dict(resources)}")
        if not allocation._held:
            return
        lent = allocation._cpu_lent
        self.reacquire_cpu(allocation)
        self._available.add(held)
        allocation.resources = {name: amount for name, amount in resources.items() if amount}
        self._available.subtract(allocation.resources)
        if lent:
            self.release_cpu(allocation)


def _check(amounts: Mapping[str, int]) -> None:
    for name, amount in amounts.items():
        if amount < 0:
            raise ValueError(f"the amount of {name!r} is negative: {amount}")


def _slots(amount: int, gpu_ids: Sequence[str]) -> Iterable[tuple[str, int]]:
    """GPU ids with their capacities for a total of ``amount``."""
    count = -(-amount // UNIT)
    ids = list(gpu_ids[:count])
    if len(set(ids)) != len(ids):
        raise ValueError(f"GPU ids occur twice: {', '.join(ids)}")
    unnamed = (str(index) for index in range(len(gpu_ids) + count) if str(index) not in ids)
    ids.extend(next(unnamed) for _ in range(count - len(ids)))
    return ((gpu_id, min(UNIT, amount - index * UNIT)) for index, gpu_id in enumerate(ids))


def _pick(free: Mapping[str, int], amount: int) -> dict[str, int] | None:
    """Shares by GPU id that make up ``amount``, or None if the free shares cannot."""
    if amount == 0:
        return {}
    whole, part = divmod(amount, UNIT)
    unused = [gpu_id for gpu_id, share in free.items() if share == UNIT][:whole]
    if len(unused) < whole:
        return None
    shares = dict.fromkeys(unused, UNIT)
    if part:
        room = [(share, index, gpu_id) for index, (gpu_id, share) in enumerate(free.items()) if gpu_id not in shares]
        fullest = min((slot for slot in room if slot[0] >= part), default=None)
        if fullest is None:
            return None
        shares[fullest[2]] = part
    return shares
