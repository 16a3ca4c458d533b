"""Questions about the session: errors, nodes and resources."""

from __future__ import annotations

import datetime
import math
import platform
import re
import sys
from collections.abc import Mapping
from typing import Any

from ray.api.options import node_count, seconds
from ray.clock import monotonic, sleep
from ray.runtime.interface import current_session

_LOOK_S = 0.05
#: Nodes that a message names.
_MAX_NAMED = 8


def error_info(job_id: str | None = None) -> list[dict[str, Any]]:
    """The latest 1000 failures of a job, oldest first: dicts with ``type``, ``message``, ``timestamp`` and ids.

    Those that ``ray.get`` has raised are among them. The others are printed in the background; normally you need not
    ask.

    Args:
        job_id: of another job of the cluster, as its ``RuntimeContext.job_id`` is; its failures are kept for a day
            after its end. There are none of a job that was never there. None is the job of this program.

    Raises:
        RayConnectionError: there is no session.
        TypeError, ValueError: ``job_id`` is none.
    """
    if job_id is not None:
        _check_job(job_id)
    return current_session().errors(job_id)


def _check_job(job_id: object) -> None:
    if not isinstance(job_id, str):
        raise TypeError(f"job_id must be a string of 8 hexadecimal digits, not {type(job_id).__name__}")
    if not re.fullmatch("[0-9a-f]{8}", job_id):
        raise ValueError(f"job_id must be 8 hexadecimal digits in lower case, as RuntimeContext.job_id, not {job_id!r}")


def nodes() -> list[dict[str, Any]]:
    """The nodes of the session, one dict each: the head of a cluster first, others as they have joined, then dead ones.

    Raises:
        RayConnectionError: there is no session.
    """
    return current_session().nodes()


def wait_for_nodes(
    n: int | None = None,
    *,
    resources: Mapping[str, float] | None = None,
    timeout_s: float | datetime.timedelta | None = 60.0,
) -> list[dict[str, Any]]:
    """Wait until the session has so many nodes and resources; returns those that are alive, as ``nodes`` does.

    Args:
        n: nodes that are alive; None: one is enough.
        resources: what they have together, in use or not, by name: ``{"CPU": 8, "disk": 2}``.
        timeout_s: seconds, or a ``datetime.timedelta``; None: as long as it takes.

    Raises:
        RayConnectionError: there is no session.
        TimeoutError: there is less by then; it says what is missing, and which nodes are there.
        TypeError, ValueError: an argument is of no use.
    """
    count, wanted = node_count("n", n), _amounts(resources)
    limit_s = seconds("timeout_s", timeout_s)
    runtime = current_session()
    end = math.inf if limit_s is None else monotonic() + limit_s
    while True:
        alive = [row for row in runtime.nodes() if row["Alive"]]
        found: dict[str, float] = {}
        for row in alive:
            for name, amount in row["Resources"].items():
                found[name] = found.get(name, 0.0) + amount
        missing = [] if len(alive) >= count else [f"{len(alive)} of {count} nodes"]
        for name, amount in wanted.items():
            if found.get(name, 0.0) < amount:
                missing.append(f"{found.get(name, 0.0):g} of {amount:g} {name}")
        if not missing:
            return alive
        if monotonic() >= end:
            names = [row["NodeName"] or row["NodeID"] for row in alive]
            there = ", ".join(names[:_MAX_NAMED])
            more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
            raise TimeoutError(
                f"after {limit_s:g} s, the session has {' and '.join(missing)}; alive: {there or 'none'}{more}"
            )
        sleep(min(_LOOK_S, max(0.0, end - monotonic())))


def _amounts(resources: Mapping[str, float] | None) -> dict[str, float]:
    wanted: dict[str, float] = {}
    given: Any = {} if resources is None else resources
    if not isinstance(given, Mapping):
        raise TypeError(f"resources must be numbers by name, not {resources!r}")
    for name, amount in given.items():
        if not isinstance(name, str) or isinstance(amount, bool) or not isinstance(amount, (int, float)):
            raise TypeError(f"resources must be numbers by name, not {resources!r}")
        if not 0 <= amount < math.inf:
            raise ValueError(f"resources[{name!r}] must not be negative or infinite: {amount!r}")
        wanted[name] = float(amount)
    return wanted


def get_node_ip_address() -> str:
    """The address at which other nodes reach the node of this process; ``127.0.0.1`` without other machines.

    Raises:
        RayConnectionError: there is no session.
    """
    return str(current_session().address_info["node_ip_address"])


def cluster_resources() -> dict[str, float]:
    """What the session has in all, by name; memory in bytes.

    Raises:
        RayConnectionError: there is no session.
    """
    return current_session().cluster_resources()


def available_resources() -> dict[str, float]:
    """What is free now, by name; memory in bytes.

    Raises:
        RayConnectionError: there is no session.
    """
    return current_session().available_resources()


def show_versions() -> None:
    """Print the versions that a report of a problem should name."""
    from importlib.metadata import PackageNotFoundError, version

    print(f"Python      {sys.version.split()[0]} ({platform.platform()})")
    for name in ("ray-core", "msgspec", "pluggy", "cloudpickle", "psutil", "numpy"):
        try:
            print(f"{name:<11} {version(name)}")
        except PackageNotFoundError:
            print(f"{name:<11} not installed")
