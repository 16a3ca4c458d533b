"""``ray.wait_for_nodes`` and the address of the node."""

from __future__ import annotations

import datetime

import pytest

import ray


def test_what_is_there_is_not_waited_for(ray_session):
    assert ray.wait_for_nodes() == ray.nodes()
    assert ray.wait_for_nodes(1, resources={"CPU": 1}, timeout_s=0) == ray.nodes()
    for timeout_s in (None, datetime.timedelta(0), float("inf")):
        assert ray.wait_for_nodes(timeout_s=timeout_s) == ray.nodes()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"n": 2}, "1 of 2 nodes"),
        ({"resources": {"CPU": 10_000}}, "of 10000 CPU"),
        ({"n": 3, "resources": {"tape": 0.5}}, "1 of 3 nodes and 0 of 0.5 tape"),
        ({"n": 2, "resources": {"nodes": 1}}, "1 of 2 nodes and 0 of 1 nodes"),
    ],
)
def test_what_does_not_come(ray_session, given, said):
    there = ray.nodes()[0]["NodeID"]
    with pytest.raises(TimeoutError, match=f"after 0.1 s, the session has .*{said}; alive: {there}$"):
        ray.wait_for_nodes(**given, timeout_s=0.1)


BAD = [
    ({"n": 0}, ValueError),
    ({"n": -1}, ValueError),
    ({"n": True}, TypeError),
    ({"n": 1.0}, TypeError),
    ({"n": "2"}, TypeError),
    ({"resources": {"CPU": -1}}, ValueError),
    ({"resources": {"CPU": float("nan")}}, ValueError),
    ({"resources": {"CPU": float("inf")}}, ValueError),
    ({"resources": {"CPU": "1"}}, TypeError),
    ({"resources": {1: 1}}, TypeError),
    ({"resources": ["CPU"]}, TypeError),
    ({"resources": "CPU"}, TypeError),
    ({"timeout_s": -1}, ValueError),
    ({"timeout_s": float("nan")}, ValueError),
    ({"timeout_s": datetime.timedelta(seconds=-1)}, ValueError),
    ({"timeout_s": 10**400}, ValueError),
    ({"timeout_s": "1"}, TypeError),
    ({"timeout_s": True}, TypeError),
]


def test_bad_calls(ray_session, subtests):
    for given, error in BAD:
        with subtests.test(str(given)), pytest.raises(error):
            ray.wait_for_nodes(**given)


def test_without_a_session():
    for call in (ray.wait_for_nodes, ray.util.get_node_ip_address):
        with pytest.raises(ray.exceptions.RayConnectionError):
            call()


@ray.remote
def address():
    return ray.util.get_node_ip_address(), ray.worker.global_worker.node_ip_address


def test_the_address_of_one_machine(ray_session):
    assert ray.util.get_node_ip_address() == "127.0.0.1"
    assert ray.get(address.remote()) == ("127.0.0.1", "127.0.0.1")
