"""The event loop over object ids. A façade: the package ``ray-async`` provides all but ``PlasmaPoll``."""

from __future__ import annotations

from typing import Any

from ray.builtin.poll_selector import PollSelector
from ray.experimental import implementation
from ray.runtime.interface import current_session


class PlasmaPoll(PollSelector):
    """The selector ``poll`` by the name that the specification gives it."""

    def __init__(self, worker: Any = None) -> None:
        """Make a selector over the objects of this session; ``worker`` is taken for the sake of old programs.

        Raises:
            RayConnectionError: there is no session.
        """
        super().__init__(current_session())


def __getattr__(name: str) -> Any:
    """Read through on each access: the names behind change as the loop comes and goes."""
    if name == "__all__":
        return ["PlasmaPoll", *implementation("plasma_eventloop").__all__]
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(implementation("plasma_eventloop"), name)


def __dir__() -> list[str]:
    return ["PlasmaPoll", *dir(implementation("plasma_eventloop"))]
