"""How a ref is pickled: as the call of a function that finds it in whichever process opens the pickle.

Called without the runtime's lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.exceptions import RayConnectionError
from ray.runtime import interface

if TYPE_CHECKING:
    from ray.runtime.refs.ref import ObjectRef


def reduce_ref(ref: ObjectRef[Any], refs: list[Any]) -> tuple[Any, ...]:
    """Reducer registered for ``ObjectRef``: notes the ref for the code that sends the value."""
    runtime = interface.current()
    if runtime is None:
        raise RayConnectionError
    return runtime.reduce_ref(ref, refs)


def rebuild_ref(id: bytes, address: str) -> ObjectRef[Any]:
    """What a pickled ref becomes; ``address`` says where to dial the owner."""
    runtime: Any = interface.current()
    if runtime is None:
        raise RayConnectionError
    ref: ObjectRef[Any] = runtime.rebuild_ref(id, address)
    return ref
