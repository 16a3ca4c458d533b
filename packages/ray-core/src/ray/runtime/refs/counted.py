"""What references are to the code below their class."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from ray.protocol.references import ObjectEntry

T_co = TypeVar("T_co", covariant=True)


class CountedRef(Protocol[T_co]):
    """What waiting for an object needs of an ``ObjectRef``: it keeps the object, and can be awaited."""

    @property
    def _entry(self) -> ObjectEntry: ...

    def __await__(self) -> Generator[Any, None, T_co]: ...
