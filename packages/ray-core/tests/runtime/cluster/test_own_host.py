"""The address under which others reach this machine: given as an address, a name or an interface."""

from __future__ import annotations

import pytest

from ray.runtime.cluster.own_host import host_towards, own_host
from ray.runtime.cluster.places import Place, is_loopback


def test_every_way_to_say_it():
    assert own_host("127.0.0.1") == "127.0.0.1"
    assert own_host("127.1.2.3") == "127.1.2.3"
    assert own_host("lo") == "127.0.0.1"
    assert is_loopback(own_host("localhost"))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("0.0.0.0", "0.0.0.0 means all addresses of this machine: give one of them, .*127.0.0.1"),
        ("::", ":: means all addresses"),
        ("198.51.100.7", r"198\.51\.100\.7 is no address of this machine, which has .*127\.0\.0\.1 \(lo\)"),
        ("no.such.host.invalid", r"'no\.such\.host\.invalid' is no address, no known name and no interface"),
    ],
)
def test_what_is_not_of_this_machine(given, text):
    with pytest.raises(ValueError, match=text):
        own_host(given)


def test_the_way_to_another():
    assert host_towards(Place("127.0.0.1", 6379)) == "127.0.0.1"
