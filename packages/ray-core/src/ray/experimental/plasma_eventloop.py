"""The event loop over object ids. A façade; the package ``ray-async`` provides it."""

from __future__ import annotations

from typing import Any

from ray.experimental import implementation


def __getattr__(name: str) -> Any:
    """Read through on each access: the names behind change as the loop comes and goes."""
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(implementation("plasma_eventloop"), name)


def __dir__() -> list[str]:
    return dir(implementation("plasma_eventloop"))
