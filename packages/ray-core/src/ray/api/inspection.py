"""Questions about the session: errors, nodes and resources."""

from __future__ import annotations

import platform
import sys
from typing import Any

from ray.runtime.interface import current_session


def error_info() -> list[dict[str, Any]]:
    """The latest 1000 failures of this session, oldest first: dicts with ``type``, ``message``, ``timestamp`` and ids.

    Those that ``ray.get`` has raised are among them. The others are printed in the background; normally you need not
    ask.

    Raises:
        RayConnectionError: there is no session.
    """
    return current_session().errors()


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
