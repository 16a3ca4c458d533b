"""Awaiting under its older name: ``ray.async_compat.get_async(ref)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ray.runtime.refs.ref import ObjectRef

__all__ = ["get_async"]

R = TypeVar("R")


async def get_async(object_ref: ObjectRef[R]) -> R:
    """The same as ``await object_ref``."""
    return await object_ref
