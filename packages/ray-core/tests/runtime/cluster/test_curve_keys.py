"""Keys that are made without ZeroMQ are those that ZeroMQ would have made."""

from __future__ import annotations

import secrets

import pytest

from ray.runtime.cluster import curve_keys

#: RFC 7748, section 6.1: the keys of Bob.
SECRET = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"


def test_the_public_key_of_the_standard():
    assert curve_keys.public_key(bytes.fromhex(SECRET)).hex() == PUBLIC


def test_pairs_are_fresh():
    first, second = curve_keys.make_pair(), curve_keys.make_pair()
    assert len({*first, *second}) == 4
    assert {len(key) for key in (*first, *second)} == {40}


def test_zmq_makes_the_same_of_it():
    zmq = pytest.importorskip("zmq")
    for _ in range(20):
        public, secret = curve_keys.make_pair()
        assert zmq.curve_public(secret.encode()).decode() == public


def test_every_letter_is_as_zmq_writes_it():
    z85 = pytest.importorskip("zmq.utils.z85")
    for _ in range(20):
        data = secrets.token_bytes(32)
        assert curve_keys._z85(data) == z85.encode(data).decode()
