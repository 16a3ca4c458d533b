"""Questions about the session: errors, nodes and resources."""

from __future__ import annotations

import platform
import re
import sys
from typing import Any

from ray.runtime.interface import current_session


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
    """The machines of the session, one dict each.

    Raises:
        RayConnectionError: there is no session.
    """
    return current_session().nodes()


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
