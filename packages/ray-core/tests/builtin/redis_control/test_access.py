"""How servers are named, and what is told of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ray.builtin.redis_control.access import Access, check_name, load, parse_url, read_private, save
from ray.exceptions import RayConnectionError

SECRET = "s3cret:/@"
QUOTED = "s3cret%3A%2F%40"


@pytest.mark.parametrize(
    ("url", "wanted", "where"),
    [
        ("redis://10.0.0.5", Access(hosts=[("10.0.0.5", 6379)]), "redis://10.0.0.5:6379"),
        ("redis://h:7000/", Access(hosts=[("h", 7000)]), "redis://h:7000"),
        ("redis://h/0", Access(hosts=[("h", 6379)]), "redis://h:6379"),
        (
            f"rediss://ray:{QUOTED}@[::1]:6380",
            Access(hosts=[("::1", 6380)], tls=True, user="ray", password=SECRET),
            "rediss://[::1]:6380",
        ),
        (f"redis://:{QUOTED}@h", Access(hosts=[("h", 6379)], password=SECRET), "redis://h:6379"),
        ("unix:///run/r/s", Access(path="/run/r/s"), "unix:///run/r/s"),
        (
            f"unix://ray:{QUOTED}@/run/r/s",
            Access(path="/run/r/s", user="ray", password=SECRET),
            "unix:///run/r/s",
        ),
        (
            f"redis+sentinel://ray:{QUOTED}@a,b:7,[::1]:8/main",
            Access(hosts=[("a", 26379), ("b", 7), ("::1", 8)], service="main", user="ray", password=SECRET),
            "redis+sentinel://a:26379,b:7,[::1]:8/main",
        ),
    ],
)
def test_urls(url: str, wanted: Access, where: str) -> None:
    access = parse_url(url)
    assert access == wanted
    assert access.where == where
    assert SECRET not in f"{access}{access!r}"
    assert access.where in repr(access)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("10.0.0.5:6379", "is redis://host:6379"),
        ("http://h", "is redis://host:6379"),
        ("redis://", "is redis://host:6379"),
        ("redis://h:port", "no host and port"),
        ("redis://h/3", "uses database 0"),
        ("redis://h?db=1", "nothing behind"),
        ("unix://run/s", "full path"),
        ("redis+sentinel://a,b", "ends in the name of the primary"),
        ("redis://[::1", "is redis://host:6379"),
    ],
)
def test_urls_that_are_none(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_url(url)


def test_no_message_holds_a_password() -> None:
    for url in (f"ftp://u:{QUOTED}@h", f"redis://u:{QUOTED}@h:x", f"redis://u:{QUOTED}@h/7", f"redis://u:{QUOTED}@h?a"):
        with pytest.raises(ValueError, match=r"control store|host and port") as caught:
            parse_url(url)
        assert "cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["a", "default", "a-b.c_9", "0" * 40])
def test_names_of_clusters(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", "A", "-a", "a b", "a}", "a" * 41, "é"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="up to 40"):
        check_name(name)


def test_an_access_is_kept_in_a_file_of_its_owner(tmp_path: Path) -> None:
    access = parse_url(f"redis://ray:{QUOTED}@h")
    address = save(access, str(tmp_path / "access.json"))
    assert SECRET not in address
    assert (tmp_path / "access.json").stat().st_mode & 0o777 == 0o600
    assert load(address) == access
    with pytest.raises(OSError, match="exists"):
        save(access, str(tmp_path / "access.json"))


@pytest.mark.parametrize("address", ["redis-access:/nowhere", "embedded:1", ""])
def test_an_address_that_leads_nowhere(address: str) -> None:
    with pytest.raises(RayConnectionError, match="no Redis control store"):
        load(address)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text(f"redis://u:{QUOTED}@h")
    path.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600") as caught:
        read_private(str(path))
    assert "cret" not in str(caught.value)
    path.chmod(0o600)
    assert QUOTED in read_private(str(path))
    link = tmp_path / "link"
    link.symlink_to(path)
    for wrong in (link, tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match=str(wrong)):
            read_private(str(wrong))
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ValueError, match="no file"):
        read_private(str(tmp_path / "pipe"))
