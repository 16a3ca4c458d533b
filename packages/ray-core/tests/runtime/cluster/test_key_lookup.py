"""Which key file is meant: each way to name a cluster, with none, one and several that fit."""

from __future__ import annotations

import os

import pytest
from tests.key_files import a_key

from ray.exceptions import KeyFileError, RayConnectionError
from ray.runtime.cluster.key_folder import KeyFolder, write_key_file
from ray.runtime.cluster.key_lookup import key_at, key_in, key_named, only_key
from ray.runtime.cluster.places import Place, is_same, parse_place

SOURCE = "address='x'"


@pytest.fixture
def folder(tmp_path):
    found = KeyFolder({"RAY_HOME": str(tmp_path)})
    found.make()
    return found


def put(folder, name, host="127.0.0.1", port=6379):
    key = a_key(name=name, host=host, port=port, control=(f"rediss://{Place(host, port)}",))
    write_key_file(folder.path_of(name), key)
    return key


def test_by_address(folder):
    one, other = put(folder, "one"), put(folder, "other", port=6380)
    assert key_at(Place("127.0.0.1", 6379), folder, SOURCE).key == one
    assert key_at(Place("localhost", 6380), folder, SOURCE) == (folder.path_of("other"), other)


def test_no_file_for_an_address_says_how_to_copy_it(folder):
    with pytest.raises(RayConnectionError) as caught:
        key_at(Place("10.0.0.5", 6379), folder, SOURCE)
    text = str(caught.value)
    assert f"There is no key file for the cluster at 10.0.0.5:6379 (from {SOURCE}) in {folder.path}." in text
    assert f"scp '10.0.0.5:.ray/clusters/NAME.json' {folder.path}/" in text
    put(folder, "one")
    with pytest.raises(RayConnectionError, match=r"those there are for one \(127\.0\.0\.1:6379\)"):
        key_at(Place("10.0.0.5", 6379), folder, SOURCE)


def test_several_files_for_an_address(folder):
    put(folder, "one")
    put(folder, "other", host="localhost")
    with pytest.raises(RayConnectionError, match="those of one and other"):
        key_at(Place("127.0.0.1", 6379), folder, SOURCE)


def test_a_file_that_cannot_be_used_is_named_if_no_other_fits(folder):
    one = put(folder, "one")
    put(folder, "other", port=6380)
    os.chmod(folder.path_of("other"), 0o644)
    assert key_at(Place("127.0.0.1", 6379), folder, SOURCE).key == one
    assert only_key(folder, SOURCE).key == one
    for port in (6380, 6381):
        with pytest.raises(KeyFileError, match="0644"):
            key_at(Place("127.0.0.1", port), folder, SOURCE)


def test_by_name(folder):
    one = put(folder, "one")
    assert key_named("one", folder, SOURCE).key == one
    with pytest.raises(RayConnectionError, match=r"no cluster of the name 'two' .*those there are for one"):
        key_named("two", folder, SOURCE)


def test_the_only_one(folder):
    with pytest.raises(
        RayConnectionError, match=f"address='x' found no cluster: there is no key file in {folder.path}"
    ):
        only_key(folder, SOURCE)
    one = put(folder, "one")
    assert only_key(folder, SOURCE).key == one
    put(folder, "other", port=6380)
    text = r"2 clusters in .*, for one \(127\.0\.0\.1:6379\) and other \(127\.0\.0\.1:6380\)"
    with pytest.raises(RayConnectionError, match=text):
        only_key(folder, SOURCE)


def test_by_its_path(folder, tmp_path):
    one = put(folder, "one")
    assert key_in(folder.path_of("one")).key == one
    with pytest.raises(KeyFileError, match="there is no such file"):
        key_in(str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("10.0.0.5:6379", Place("10.0.0.5", 6379)),
        ("redis://10.0.0.5:6379", Place("10.0.0.5", 6379)),
        ("[::1]:6379", Place("::1", 6379)),
        ("head:1024", Place("head", 1024)),
        ("HEAD.example:65535", Place("head.example", 65535)),
        *((text, None) for text in ("head", "head:80", "head:65536", ":6379", "::1:6379", "http://h:6379", "", " ")),
        *((text, None) for text in ("h:6379/1", "u:p@h:6379", "h:x", "[::1", "a\0b:6379", "h:6379?x=1")),
    ],
)
def test_addresses(text, place):
    assert parse_place(text) == place
    if place is not None:
        assert parse_place(str(place)) == place


def test_the_same_place():
    assert is_same(Place("127.0.0.1", 6379), Place("localhost", 6379))
    assert not is_same(Place("127.0.0.1", 6379), Place("127.0.0.1", 6380))
    assert not is_same(Place("127.0.0.1", 6379), Place("127.0.0.2", 6379))
    assert not is_same(Place("no.such.host.invalid", 6379), Place("127.0.0.1", 6379))
    assert is_same(Place("no.such.host.invalid", 6379), Place("no.such.host.invalid", 6379))
