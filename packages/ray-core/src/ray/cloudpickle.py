"""cloudpickle, under the path by which programs of Ray import it."""

from __future__ import annotations

from typing import Any

import cloudpickle as _cloudpickle
from cloudpickle import *  # noqa: F403


def __getattr__(name: str) -> Any:
    return getattr(_cloudpickle, name)
