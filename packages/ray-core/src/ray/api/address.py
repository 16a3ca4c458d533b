"""The address of a cluster: where it comes from, and what it may look like."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ray.clock import monotonic, sleep
from ray.exceptions import RayConnectionError
from ray.runtime.cluster.places import PORTS, parse_place, without_password
from ray.runtime.cluster.wanted import WantedCluster, may_be_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.runtime.cluster.key_folder import FoundKey
    from ray.runtime.interface import Runtime

_ENVIRONMENT = "RAY_ADDRESS"
_SESSION = "unix:"
_LOOK_S, _LEAST_S = 0.05, 0.1


def cluster_address(address: object, redis_address: object, *, local_mode: bool) -> WantedCluster | None:
    """The cluster to join, or None to start one on this machine.

    ``address`` and ``redis_address`` are synonyms; without them ``RAY_ADDRESS`` counts, except in local mode.
    ``"local"`` starts one here, in either place; ``"auto"`` is the one whose key file this user has.

    Raises:
        ValueError: both were given, or the address has no host or no usable port and cannot be a name.
        TypeError: it is no string.
    """
    if address is not None and redis_address is not None:
        raise ValueError(
            f"address={address!r} and redis_address={redis_address!r} are the same option: give one of them."
        )
    name = "redis_address" if address is None else "address"
    given = redis_address if address is None else address
    if given is not None and not isinstance(given, str):
        number = isinstance(given, (int, float)) and not isinstance(given, bool)
        instead = f". For a number of CPUs there is ray.init(num_cpus={given!r})" if number else _by_keyword(given)
        raise TypeError(
            f"{name} must be a string such as '10.0.0.5:6379', not {given!r} ({type(given).__name__}){instead}"
        )
    if given == "auto" or (given is None and not local_mode):
        from_environment = os.environ.get(_ENVIRONMENT)
        if from_environment:
            name, given = _ENVIRONMENT, from_environment
    if given is None or given == "local" or given.startswith(_SESSION):
        return None
    source = f"{name}={without_password(given)!r}"
    if given == "auto":
        return WantedCluster(source)
    place = parse_place(given)
    if place is not None:
        return WantedCluster(source, place)
    if may_be_name(given):
        return WantedCluster(source, name=given)
    number = given.isdecimal() and not source.startswith(_ENVIRONMENT)
    instead = f"For a number of CPUs there is ray.init(num_cpus={int(given)})." if number else otherwise(source)
    names = ", ".join(_known_names()) or "none"
    raise ValueError(
        f"Invalid address port or host in {source}: an address is 'host:port' (or 'redis://host:port') with a port "
        f"from {PORTS.start} to {PORTS.stop - 1}, such as '10.0.0.5:6379', or the name of a cluster whose key file you "
        f"have ({names}). {instead}"
    )


def session_to_join(address: object, redis_address: object, *, local_mode: bool) -> str | None:
    """The directory of the session on this machine that ``init`` is to join, or None: ``unix:<directory>``.

    Where it may be given is as for ``cluster_address``, which is asked first and finds none then.
    """
    given = address if address is not None else redis_address
    if given == "auto" or (given is None and not local_mode):
        given = os.environ.get(_ENVIRONMENT)
    if not isinstance(given, str) or not given.startswith(_SESSION):
        return None
    return given.removeprefix(_SESSION)


def _by_keyword(given: object) -> str:
    return ". Options are given by name: ray.init(**options)" if isinstance(given, dict) else ""


def _known_names() -> list[str]:
    from ray.runtime.cluster.key_folder import KeyFolder

    return KeyFolder().names()


def node_of(wanted: WantedCluster, timeout_s: float) -> str | FoundKey:
    """The session directory of the node on this machine that a program joins; or the cluster's key, where none is here.

    Blocks for as long as ``timeout_s``.

    Raises:
        RayConnectionError: there is none, or the cluster does not answer.
        RaySystemError: what answers is another cluster than the key file is for.
        KeyFileError: the key file cannot be used.
    """
    from ray.runtime.cluster import attaching

    try:
        return attaching.node_of(wanted, timeout_s)
    except RayConnectionError as error:
        raise RayConnectionError(f"{error} {otherwise(wanted.source)}") from None


def join_node_of(wanted: WantedCluster, timeout_s: float, join: Callable[[str | FoundKey], Runtime]) -> Runtime:
    """Have a program join the node that it is to join; another one, if that one is just ending.

    Blocks for as long as ``timeout_s``.

    Args:
        wanted: the cluster.
        timeout_s: how long to try.
        join: joins the node of a session directory; or, where none is here, one of another machine, with this key.

    Raises:
        RayConnectionError: there is none, or the cluster does not answer.
        RaySystemError: what answers is another cluster than the key file is for.
        KeyFileError: the key file cannot be used.
    """
    from ray.runtime.driver.leaving import NodeLeavesError

    end = monotonic() + timeout_s
    while True:
        try:
            return join(node_of(wanted, max(end - monotonic(), _LEAST_S)))
        except NodeLeavesError as error:
            if monotonic() >= end:
                raise RayConnectionError(
                    f"No node of the cluster {wanted} (from {wanted.source}) has taken this program within "
                    f"{timeout_s:g} s: {error}. Where the node manager of the head has died, another one is started: "
                    "try again, or give a longer connect_timeout_s."
                ) from None
        sleep(_LOOK_S)


def join_session(join: Callable[[], Runtime]) -> Runtime:
    """Have a program join a session that it has named itself: there is no other one.

    Raises:
        RayConnectionError: there is none, or it has ended.
    """
    from ray.runtime.driver.leaving import NodeLeavesError

    try:
        return join()
    except NodeLeavesError as error:
        raise RayConnectionError(str(error)) from None


def otherwise(source: str) -> str:
    """What one does who wants no cluster."""
    if source.startswith(_ENVIRONMENT):  # without an address it would count again
        return f"Unset {_ENVIRONMENT}, or call ray.init(address='local'), to start a session on this machine."
    return "Call ray.init() without an address to start a session on this machine."
