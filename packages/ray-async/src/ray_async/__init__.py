"""asyncio for ray-core: actor executor, object selector, event loop, async API and structured concurrency.

What programs use is ``ray.experimental.async_api`` and ``ray.experimental.plasma_eventloop``, which lead here, and the
names of this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray_async._version import __version__

if TYPE_CHECKING:
    from ray_async.structured import TaskGroup, as_completed, as_coroutine, map

__all__ = ["TaskGroup", "__version__", "as_completed", "as_coroutine", "map"]


def __getattr__(name: str) -> Any:
    """Import late: plugins of this package are looked at by programs that never use asyncio."""
    if name in __all__:
        from ray_async import structured

        return getattr(structured, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
