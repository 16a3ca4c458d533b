"""Dask's default scheduler is this one, from here on or for a ``with`` statement."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from ray.util.dask.scheduler import module, ray_dask_get
from ray.util.own_session import OwnSession

#: What Dask is told. Files of a machine, by which its frames are shuffled otherwise, are not on all nodes.
_SETTINGS = {"scheduler": ray_dask_get, "dataframe.shuffle.method": "tasks"}

_enabled: list[enable_dask_on_ray] = []


class enable_dask_on_ray:  # noqa: N801 (a function to its users)
    """Have ``compute()`` of Dask run in the session; without one a session is started, and ends with this.

    ``with enable_dask_on_ray(): ...`` holds in its body, a call until ``disable_dask_on_ray()``.
    """

    def __init__(self) -> None:
        """Have it so.

        Raises:
            ImportError: Dask is missing.
            RayError: as ``ray.init``.
        """
        config = module("dask.config")
        self._own = OwnSession()
        self._setting: Any = config.set(_SETTINGS)
        _enabled.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Have Dask as it was. Idempotent."""
        if self in _enabled:
            _enabled.remove(self)
            self._setting.__exit__(None, None, None)
            self._own.end()


def disable_dask_on_ray() -> None:
    """Have Dask as it was before ``enable_dask_on_ray()``; does nothing where that is not in effect."""
    for enabled in reversed(_enabled.copy()):
        enabled.end()
