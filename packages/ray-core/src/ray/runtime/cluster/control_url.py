"""URLs of a control server that exists: what is in them, with and without the secrets."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ray.runtime.cluster.places import Place

KINDS = "redis://host:6379, rediss://host:6379 or redis+sentinel://host1,host2,host3/primary"
_PORTS = {"redis": 6379, "rediss": 6379, "redis+sentinel": 26379}


class ControlUrl(NamedTuple):
    """One of them."""

    shown: str
    """Without user and password."""
    place: Place
    """The server; or the first of the Sentinels."""
    user: str
    password: str


def parse_control_url(text: str) -> ControlUrl:
    """What is in a URL.

    Raises:
        ValueError: it is none of a control server; the text names no password.
    """
    wrong = ValueError(f"the URL of a control server is {KINDS}")
    try:
        split = urlsplit(text.strip())
    except ValueError:
        raise wrong from None
    usual = _PORTS.get(split.scheme)
    login, _, hosts = split.netloc.rpartition("@")
    service = split.path.strip("/")
    is_sentinel = split.scheme == "redis+sentinel"
    if usual is None or not hosts or split.query or split.fragment or bool(service) != is_sentinel:
        raise wrong
    places = [_place(host, usual) for host in hosts.split(",")]
    if None in places or (len(places) > 1 and not is_sentinel):
        raise wrong
    first = places[0]
    assert first is not None
    user, _, password = (unquote(part) for part in login.partition(":"))
    shown = ",".join(str(place) for place in places)
    return ControlUrl(f"{split.scheme}://{shown}{f'/{service}' if service else ''}", first, user, password)


def _place(text: str, usual: int) -> Place | None:
    try:
        split = urlsplit(f"//{text}")
        host, port = split.hostname, split.port
    except ValueError:
        return None
    return Place(host, port or usual) if host else None
