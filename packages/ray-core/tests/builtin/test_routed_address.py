"""Addresses of several contacts: what they say, and what is none."""

import pytest

from ray.builtin.routed_address import RoutedAddress
from ray.exceptions import RayConnectionError
from ray.protocol.handshake import MAX_ADDRESS_CHARS

NODE = 4_000_000_000


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (RoutedAddress(7, "unix:/run/a.sock"), "routed:7/unix:/run/a.sock"),
        (RoutedAddress(NODE, "unix:/a", "tcp://[::1]:4123"), f"routed:{NODE}/unix:/a|tcp://[::1]:4123"),
        (RoutedAddress(1, "unix:/a|b%7Cc", "x|y"), "routed:1/unix:/a%7Cb%257Cc|x%7Cy"),
        (RoutedAddress(1, "unix:/ä\n/b"), "routed:1/unix:/ä\n/b"),
    ],
)
def test_they_are_read_as_they_were_written(address, text):
    assert address.text() == text
    assert RoutedAddress.parse(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:/a",
        "routed:",
        "routed:7",
        "routed:7/",
        "routed:/unix:/a",
        "routed:0/unix:/a",
        "routed:07/unix:/a",
        "routed:-7/unix:/a",
        "routed:७/unix:/a",
        f"routed:{1 << 32}/unix:/a",
        f"routed:{10**10}/unix:/a",
        "routed:7/|tcp://10.0.0.5:1",
        "routed:7/unix:/a|",
        "routed:7/unix:/a|b|c",
        "routed:7/unix:/a%20b",
        "routed:7/unix:/a%7c",
        "routed:7/unix:/a\0",
        "routed:7/unix:/a\n"[:-1] + "|\0",
        "routed:7/unix:/" + "a" * MAX_ADDRESS_CHARS,
    ],
)
def test_what_is_no_address_is_refused_by_name(text):
    with pytest.raises(RayConnectionError, match="is not an address of transport='routed'") as caught:
        RoutedAddress.parse(text)
    assert isinstance(caught.value, ConnectionError)
    assert repr(text[:100])[1:-1] in str(caught.value)
    assert len(str(caught.value)) < 300


def test_none_is_longer_than_others_accept():
    room = MAX_ADDRESS_CHARS - len("routed:7/unix:/")
    assert len(RoutedAddress(7, "unix:/" + "a" * room).text()) == MAX_ADDRESS_CHARS
    for contacts in (["unix:/" + "a" * (room + 1)], ["unix:/" + "|" * (room // 2)], ["unix:/a" * 40, "tcp:/b" * 160]):
        with pytest.raises(OSError, match="more than 1000 characters"):
            RoutedAddress(7, *contacts).text()
