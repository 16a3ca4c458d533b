"""One face for every package that offers ``import ray``: the programs beside this file run unchanged under each.

Only what really differs between the original Ray and this project is hidden here. Run as a program it starts the
runtime, runs one task and prints the versions, or the reason why that is not possible, as one line of JSON.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

ray: Any = importlib.import_module("ray")

remote: Callable[..., Any] = ray.remote

ORIGINAL = importlib.util.find_spec("ray._raylet") is not None
"""True under the original Ray, which has a compiled core."""


def init(**options: Any) -> None:
    """Start a runtime on this machine with the defaults, except for log forwarding and the original's dashboard."""
    if ORIGINAL:
        ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR", **options)
    else:
        ray.init(log_to_driver=False, **options)


def wait(refs: list[Any], num_returns: int = 1, timeout_s: float | None = None) -> tuple[list[Any], list[Any]]:
    """``ray.wait`` with the timeout in seconds everywhere."""
    if timeout_s is None:
        return ray.wait(refs, num_returns=num_returns)  # type: ignore[no-any-return]
    timeout: Any = timeout_s if ORIGINAL else datetime.timedelta(seconds=timeout_s)
    return ray.wait(refs, num_returns=num_returns, timeout=timeout)  # type: ignore[no-any-return]


def returning(count: int) -> dict[str, int]:
    """The option that gives a task ``count`` return refs."""
    return {"num_returns" if ORIGINAL else "num_return_vals": count}


def versions() -> dict[str, str]:
    """What was measured: the distribution behind ``import ray``, its parts, the interpreter, numpy."""
    found = {"python": platform.python_version()}
    names = ["ray"] if ORIGINAL else ["ray-core", "ray-store-plasma", "ray-store-shm", "ray-transport-zmq", "ray-async"]
    for name in [*names, "numpy"]:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    chosen = {name: os.environ[name] for name in ("RAY_STORE", "RAY_TRANSPORT", "RAY_SELECTOR") if name in os.environ}
    return found | chosen


def probe() -> int:
    """Start, run one task, stop. Prints ``{"versions": …}`` or ``{"unavailable": reason}``; the exit code is 0 or 1."""

    @remote
    def answer() -> int:
        return 42

    try:
        init()
        assert ray.get(answer.remote()) == 42
        ray.shutdown()
    except Exception as error:
        text = " ".join(str(error).split())
        print(json.dumps({"unavailable": f"{type(error).__name__}: {text}"[:400]}))
        return 1
    print(json.dumps({"versions": versions()}))
    return 0


if __name__ == "__main__":
    sys.exit(probe())
