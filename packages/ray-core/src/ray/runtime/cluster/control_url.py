"""URLs of a control server that exists: what is in them, with and without the secrets."""

from __future__ import annotations

from typing import NamedTuple

from ray.builtin.redis_control.access import parse_url
from ray.runtime.cluster.places import Place

KINDS = "redis://host:6379, rediss://host:6379 or redis+sentinel://host1,host2,host3/primary"


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
        access = parse_url(text)
    except ValueError:
        raise wrong from None
    if access.path or (not access.service and "," in access.hosts[0][0]):
        raise wrong
    return ControlUrl(access.where, Place(*access.hosts[0]), access.user, access.password)
