"""Resource accounting: exact, conserved, with concrete GPUs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from ray.protocol.resources import UNIT, NodeResources, ResourceSet


def node(**amounts):
    ids = amounts.pop("ids", ())
    return NodeResources({name: round(amount * UNIT) for name, amount in amounts.items()}, ids)


def ask(**amounts):
    return {name: round(amount * UNIT) for name, amount in amounts.items()}


def test_sets_add_subtract_and_fit():
    have = ResourceSet({"CPU": 2})
    have.add({"CPU": 1, "x": 5})
    have.subtract({"CPU": 4, "y": 1})
    assert have.to_dict() == {"CPU": -1, "x": 5, "y": -1}
    assert (have["CPU"], have["missing"]) == (-1, 0)
    assert have.fits({"x": 5, "CPU": 0, "missing": 0})
    assert not have.fits({"x": 6})
    assert not have.fits({"missing": 1})


def test_ten_tenths_are_one():
    resources = node(CPU=1)
    grants = [resources.try_acquire(ask(CPU=0.1)) for _ in range(10)]
    assert all(grants)
    assert resources.available() == {"CPU": 0}
    assert resources.try_acquire(ask(CPU=0.1)) is None
    for grant in grants:
        resources.release(grant)
    assert resources.available() == resources.total() == {"CPU": UNIT}


def test_a_grant_is_whole_or_nothing():
    resources = node(CPU=4, disk=1)
    assert resources.try_acquire(ask(CPU=1, disk=2)) is None
    assert resources.available() == resources.total()
    grant = resources.try_acquire(ask(CPU=1, disk=0.5, GPU=0))
    assert dict(grant.resources) == ask(CPU=1, disk=0.5)


def test_whole_gpus_are_given_alone_and_fractions_are_packed():
    resources = node(GPU=3, ids=["2", "GPU-a", "5"])
    half = resources.try_acquire(ask(GPU=0.5))
    assert half.gpu_ids == ("2",)
    whole = resources.try_acquire(ask(GPU=1))
    assert whole.gpu_ids == ("GPU-a",)
    quarter = resources.try_acquire(ask(GPU=0.25))
    assert quarter.gpu_ids == ("2",), "a fraction goes where another one is"
    assert resources.try_acquire(ask(GPU=2)) is None, "1.25 are free, but only one is whole"
    large = resources.try_acquire(ask(GPU=0.75))
    assert large.gpu_ids == ("5",)
    resources.release(half)
    resources.release(quarter)
    assert resources.try_acquire(ask(GPU=1)).gpu_ids == ("2",)


def test_a_fraction_goes_to_the_fullest_gpu_with_room():
    resources = node(GPU=3, ids=["0", "1", "2"])
    first = resources.try_acquire(ask(GPU=0.6))
    second = resources.try_acquire(ask(GPU=0.7))
    assert (first.gpu_ids, second.gpu_ids) == (("0",), ("1",))
    assert resources.try_acquire(ask(GPU=0.3)).gpu_ids == ("1",)
    assert resources.try_acquire(ask(GPU=0.4)).gpu_ids == ("0",)


def test_whole_and_fraction_together():
    resources = node(GPU=2, ids=["a", "b"])
    grant = resources.try_acquire(ask(GPU=1.5))
    assert grant.gpu_ids == ("a", "b")
    assert resources.try_acquire(ask(GPU=0.5)).gpu_ids == ("b",)


def test_gpus_without_ids_are_numbered():
    assert node(GPU=2).try_acquire(ask(GPU=2)).gpu_ids == ("0", "1")
    assert node(GPU=3, ids=["1"]).try_acquire(ask(GPU=3)).gpu_ids == ("1", "0", "2")
    assert node(GPU=1, ids=["7", "8"]).try_acquire(ask(GPU=1)).gpu_ids == ("7",)
    with pytest.raises(ValueError, match="twice"):
        node(GPU=2, ids=["1", "1"])


def test_half_a_gpu_in_total():
    resources = node(GPU=0.5)
    assert not resources.feasible(ask(GPU=1))
    assert resources.feasible(ask(GPU=0.5))
    assert resources.try_acquire(ask(GPU=0.5)).gpu_ids == ("0",)
    assert not resources.feasible(ask(GPU=0.6))


def test_feasible_looks_at_totals_only():
    resources = node(CPU=2, disk=1)
    resources.try_acquire(ask(CPU=2))
    assert resources.feasible(ask(CPU=2, disk=1))
    assert not resources.feasible(ask(CPU=3))
    assert not resources.feasible(ask(nowhere=0.1))
    assert resources.feasible({})


def test_a_blocked_worker_lends_its_cpu_and_may_overdraw():
    resources = node(CPU=1, disk=1)
    blocked = resources.try_acquire(ask(CPU=1, disk=1))
    resources.release_cpu(blocked)
    resources.release_cpu(blocked)
    assert resources.available() == ask(CPU=1, disk=0)
    other = resources.try_acquire(ask(CPU=1))
    resources.reacquire_cpu(blocked)
    resources.reacquire_cpu(blocked)
    assert resources.available() == ask(CPU=-1, disk=0)
    assert resources.try_acquire(ask(CPU=0.1)) is None
    assert resources.try_acquire({}) is not None, "nothing is free even here"
    resources.release(other)
    assert resources.available()["CPU"] == 0
    resources.release(blocked)
    assert resources.available() == resources.total()


def test_release_while_blocked_and_twice():
    resources = node(CPU=2, GPU=1)
    grant = resources.try_acquire(ask(CPU=2, GPU=1))
    resources.release_cpu(grant)
    resources.release(grant)
    assert resources.available() == resources.total()
    assert not grant.held
    for late in (resources.release, resources.release_cpu, resources.reacquire_cpu):
        late(grant)
    assert resources.available() == resources.total()
    assert resources.try_acquire(ask(GPU=1)) is not None


@pytest.mark.parametrize("blocked", [False, True])
def test_an_actor_needs_less_to_live_than_to_be_placed(blocked):
    resources = node(CPU=1, GPU=1)
    actor = resources.try_acquire(ask(CPU=1, GPU=1))
    if blocked:
        resources.release_cpu(actor)
    resources.shrink(actor, ask(GPU=1))
    assert resources.available() == ask(CPU=1, GPU=0)
    resources.reacquire_cpu(actor)
    assert resources.available() == ask(CPU=1, GPU=0)
    with pytest.raises(ValueError, match="cannot shrink"):
        resources.shrink(actor, ask(GPU=1, CPU=1))
    with pytest.raises(ValueError, match="keeps its GPUs"):
        resources.shrink(actor, {})
    resources.release(actor)
    resources.shrink(actor, ask(GPU=1))
    assert resources.available() == resources.total()


def test_negative_amounts_are_refused():
    with pytest.raises(ValueError, match="'CPU' is negative"):
        node(CPU=-1)
    with pytest.raises(ValueError, match="'disk' is negative"):
        node(CPU=1).try_acquire(ask(disk=-1))


amounts = st.dictionaries(
    st.sampled_from(["CPU", "GPU", "disk"]), st.integers(0, 3 * UNIT) | st.sampled_from([UNIT, UNIT // 2])
)


@given(total=amounts, request=amounts)
def test_what_is_feasible_fits_on_an_empty_node(total, request):
    resources = NodeResources(total)
    grant = resources.try_acquire(request)
    assert (grant is not None) == resources.feasible(request)


class Accounting(RuleBasedStateMachine):
    """Whatever happens, what is free and what is held add up to the total, and no GPU is given away twice."""

    grants = Bundle("grants")
    gpus = 3

    def __init__(self):
        super().__init__()
        self.node = NodeResources({"CPU": 2 * UNIT, "GPU": self.gpus * UNIT, "disk": 5}, ["a", "b", "c"])
        self.held = {}
        self.lent = set()

    @rule(target=grants, request=amounts)
    def acquire(self, request):
        free = self.node.available()
        grant = self.node.try_acquire(request)
        if grant is None:
            assert self.node.available() == free
        else:
            assert all(free.get(name, 0) >= amount for name, amount in request.items() if amount)
            assert len(grant.gpu_ids) == -(-request.get("GPU", 0) // UNIT)
            self.held[grant] = dict(grant.resources)
        return grant

    @rule(grant=consumes(grants))
    def release(self, grant):
        if grant is not None:
            self.node.release(grant)
            self.held.pop(grant, None)
            self.lent.discard(grant)

    @rule(grant=grants)
    def block(self, grant):
        if grant in self.held:
            self.node.release_cpu(grant)
            self.lent.add(grant)

    @rule(grant=grants)
    def unblock(self, grant):
        if grant in self.held:
            self.node.reacquire_cpu(grant)
            self.lent.discard(grant)

    @rule(grant=grants)
    def shrink(self, grant):
        if grant in self.held:
            self.held[grant].pop("CPU", None)
            self.node.shrink(grant, dict(self.held[grant]))

    @invariant()
    def nothing_is_lost(self):
        for name, total in self.node.total().items():
            held = sum(r.get(name, 0) for g, r in self.held.items() if name != "CPU" or g not in self.lent)
            assert self.node.available()[name] + held == total

    @invariant()
    def gpus_are_not_given_twice(self):
        shares = dict.fromkeys(["a", "b", "c"], 0)
        for grant in self.held:
            for gpu_id, share in grant._shares.items():
                shares[gpu_id] += share
        assert all(share <= UNIT for share in shares.values())
        assert sum(UNIT - share for share in shares.values()) == self.node.available()["GPU"]


TestAccounting = Accounting.TestCase
