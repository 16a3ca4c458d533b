"""The entries of refs that the program has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.exceptions import RayConnectionError
from ray.protocol.references import ObjectEntry, ReferenceTable

if TYPE_CHECKING:
    from ray.runtime.refs.counted import CountedRef


def entry_in(table: ReferenceTable, ref: CountedRef[Any]) -> ObjectEntry:
    """The entry of a ref.

    Raises:
        RayConnectionError: the ref is not of the session of ``table``.
    """
    entry = ref._entry
    if entry.table is not table:
        raise RayConnectionError(f"{ref!r} belongs to a session that has ended.")
    return entry
