"""The async API: ``get``, ``wait``, ``as_future``, groups. A façade; the package ``ray-async`` provides it."""

from __future__ import annotations

from typing import Any

from ray.experimental import implementation


def __getattr__(name: str) -> Any:
    """Read through on each access: the names behind change as the loop comes and goes."""
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(implementation("async_api"), name)


def __dir__() -> list[str]:
    return dir(implementation("async_api"))
