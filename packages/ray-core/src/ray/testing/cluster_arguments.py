"""What ``ray.testing.Cluster`` is told, checked as ``ray start`` checks it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ray.api.options import memory_bytes
from ray.api.session import MIN_STORE_BYTES
from ray.plugins.seams import SEAMS
from ray.runtime.cluster.given_names import (
    ENCRYPTIONS,
    LEAST_WAIT_S,
    MOST_WAIT_S,
    cluster_name,
    label,
    node_name,
)

__all__ = ["cluster_name", "control_timeout", "encryption", "flag", "labels", "node_name", "parts", "store_bytes"]


def encryption(given: str) -> str:
    """That of values between nodes.

    Raises:
        ValueError: there is none of this name.
    """
    if given not in ENCRYPTIONS:
        raise ValueError(f"data_encryption={given!r}: it is one of {', '.join(map(repr, ENCRYPTIONS))}")
    return given


def control_timeout(given: float) -> float:
    """In seconds.

    Raises:
        TypeError: it is no number.
        ValueError: nobody can wait for so long.
    """
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise TypeError(f"control_timeout_s takes seconds, not {given!r}")
    if math.isnan(given) or not LEAST_WAIT_S <= given <= MOST_WAIT_S:
        raise ValueError(f"control_timeout_s={given!r}: it is from {LEAST_WAIT_S:g} to {MOST_WAIT_S:g} seconds")
    return float(given)


def flag(name: str, given: bool) -> bool:
    """A choice of two.

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(given, bool):
        raise TypeError(f"{name} is True or False, not {given!r}")
    return given


def parts(given: Mapping[str, str]) -> dict[str, str]:
    """{part: what it is to be}.

    Raises:
        TypeError: there is no such part.
    """
    for name in given:
        if name not in SEAMS:
            raise TypeError(f"Cluster has no argument {name!r}; parts of nodes are {', '.join(SEAMS)}")
    return dict(given)


def labels(given: Mapping[str, str] | None) -> dict[str, str]:
    """Those of a node.

    Raises:
        TypeError: they are no mapping of texts.
        ValueError: one of them is no label.
    """
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"labels takes a mapping such as {{'zone': 'a'}}, not {given!r}")
    return {label(key): label(value) for key, value in (given or {}).items()}


def store_bytes(given: Any) -> int:
    """The size of a node's store.

    Raises:
        TypeError: it is no number of bytes.
        ValueError: it is too small.
    """
    found = memory_bytes("object_store_memory", given)
    if found < MIN_STORE_BYTES:
        raise ValueError(f"object_store_memory must be at least {MIN_STORE_BYTES:,} bytes, not {given!r}")
    return found
