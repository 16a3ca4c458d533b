"""What the built-in policies prefer, beyond the contract."""

from dataclasses import replace

import pytest

from ray.builtin.schedulers import HybridPolicy, SpreadPolicy
from ray.testing.contracts._checks_scheduler import a_node, a_request


def chosen(policy, *nodes, **request):
    seen = policy.choose(a_request(**request or {"CPU": 1}), nodes)
    return seen and int.from_bytes(seen, "big")


def test_hybrid_packs_the_local_node_first():
    assert chosen(HybridPolicy(), a_node(1, 4), a_node(9, 4, is_local=True)) == 9
    assert chosen(HybridPolicy(), a_node(1, 4), a_node(9, 3, is_local=True)) == 9
    assert chosen(HybridPolicy(), a_node(9, 3, is_local=True), a_node(1, 4)) == 9, "whatever the order"


def test_hybrid_then_packs_others_and_then_spreads():
    full_local = a_node(9, 2, is_local=True)
    assert chosen(HybridPolicy(), full_local, a_node(2, 4), a_node(1, 3)) == 1, "the first other below the threshold"
    assert chosen(HybridPolicy(), full_local, a_node(2, 1), a_node(1, 1)) == 9, "the least used where all are above"
    assert chosen(HybridPolicy(), a_node(9, 1, is_local=True), a_node(1, 2)) == 1


def test_hybrid_looks_at_the_scarcest_resource():
    local = a_node(9, 4, is_local=True, GPU=1)
    assert chosen(HybridPolicy(), local, a_node(1, 4, GPU=4), CPU=1, GPU=1) == 1


@pytest.mark.parametrize("threshold", [-0.1, 1.1])
def test_hybrid_checks_its_threshold(threshold):
    with pytest.raises(ValueError, match="between 0 and 1"):
        HybridPolicy(threshold)


def test_the_threshold_counts():
    nodes = a_node(1, 4), a_node(9, 2, is_local=True)
    assert chosen(HybridPolicy(threshold=1), *nodes) == 9
    assert chosen(HybridPolicy(threshold=0.75), *nodes) == 9
    assert chosen(HybridPolicy(threshold=0), *nodes) == 1


def test_spread_takes_the_least_used():
    assert chosen(SpreadPolicy(), a_node(1, 2, is_local=True), a_node(2, 3), a_node(3, 3)) == 2
    assert chosen(SpreadPolicy(), a_node(1, 4, 16), a_node(2, 3, 4)) == 2, "by share, not by amount"


def test_spread_fills_evenly():
    free = dict.fromkeys(range(4), 4)
    order = []
    for _ in range(16):
        number = chosen(SpreadPolicy(), *(a_node(n, f) for n, f in free.items()))
        free[number] -= 1
        order.append(number)
    assert order == [0, 1, 2, 3] * 4
    assert chosen(SpreadPolicy(), *(a_node(n, f) for n, f in free.items())) is None


def test_spread_takes_the_one_with_the_fewest_workers_of_those_that_are_used_alike():
    nodes = [replace(a_node(1, 4), leased=2), replace(a_node(2, 4), leased=1), a_node(3, 3)]
    assert chosen(SpreadPolicy(), *nodes) == 2
    assert chosen(SpreadPolicy(), *nodes, CPU=0) == 2


def test_hybrid_spreads_what_wants_to_be_spread():
    request = replace(a_request(CPU=1), spread=True)
    nodes = [a_node(1, 3, is_local=True), a_node(2, 4)]
    assert HybridPolicy().choose(request, nodes) == nodes[1].node_id
