"""Values of local mode: copies in the serializer's form, put, passed as arguments, and read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ray.exceptions import ObjectLostError, RayConnectionError, RayError
from ray.protocol.references import FAILED, READY
from ray.runtime import interface
from ray.runtime.local.entries import Entries
from ray.runtime.local.failures import Failures
from ray.runtime.owner.unreadable import FINALISED, error_of, raise_unreadable, raise_unreadable_value
from ray.runtime.refs.counted import CountedRef
from ray.runtime.refs.ref import ObjectRef
from ray.serialization import (
    deserialize_aligned,
    deserialize_copy,
    register_reducer,
    serialize,
    serialize_args,
)

Packed = tuple[bytes, list[ObjectRef[Any]]]
"""Arguments as a copy, and the refs inside, kept as long as the copy."""


class Values:
    """Of one session. Safe from several threads."""

    def __init__(self, entries: Entries, failures: Failures, collect: Callable[[], None]) -> None:
        self._entries = entries
        self._failures = failures
        self._collect = collect
        register_reducer(ObjectRef, _reduce_ref)

    def put(self, value: object) -> ObjectRef[Any]:
        """Store a copy."""
        ref = self._entries.make(serialize(value))
        self._collect()
        return ref

    def get(self, refs: Sequence[ObjectRef[Any]], timeout_s: float | None, copy: bool = False) -> list[Any]:
        """The values; nothing is ever pending, so ``timeout_s`` has no effect."""
        try:
            return [self._value(ref, copy) for ref in refs]
        except RayError:
            self.asked_for(refs)
            raise

    def asked_for(self, refs: Sequence[CountedRef[Any]]) -> None:
        """See ``Runtime``."""
        for ref in refs:
            self._failures.asked_for(ref._entry.id)

    def get_one(self, ref: CountedRef[Any], timeout_s: float | None, copy: bool = False) -> Any:
        """``get`` of one."""
        return self._value(ref, copy)

    def get_done(self, ref: CountedRef[Any], timeout_s: float | None = None) -> Any:
        """See ``Waits``."""
        return self._value(ref)

    def _value(self, ref: CountedRef[Any], copy: bool = False) -> Any:
        entry = self._entries.of(ref)
        if entry.status == READY:
            try:
                blob = entry.value
                if blob is None:  # it has been let go of
                    raise ObjectLostError(entry.id, FINALISED)
                return (deserialize_copy if copy else deserialize_aligned)(blob)
            except BaseException as error:
                raise_unreadable_value(error, entry)
        if entry.status == FAILED:
            self._failures.asked_for(entry.id)
            raise error_of(entry)
        raise ObjectLostError(entry.id, "no task or put of this session has made it")

    def reduce_ref(self, ref: CountedRef[Any], refs: list[Any] | None) -> tuple[Any, ...]:
        """See ``Runtime``."""
        self._entries.of(ref)
        (self._entries.kept if refs is None else refs).append(ref)
        return _find_ref, (ref._entry.id,)

    def pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed:
        """Copy arguments."""
        packed = serialize_args(args, kwargs)
        return packed.to_bytes(), packed.refs

    def unpack(self, packed: Packed, call: str) -> tuple[list[Any], dict[str, Any]]:
        """The copy, with the values of top-level refs in their place; raises what made one of them fail."""
        try:
            args, kwargs = deserialize_aligned(packed[0])
        except BaseException as error:
            raise_unreadable(error, f"an argument of {call}")
        return (
            [self._value(value) if type(value) is ObjectRef else value for value in args],
            {name: self._value(value) if type(value) is ObjectRef else value for name, value in kwargs.items()},
        )


def _find_ref(id: bytes) -> ObjectRef[Any]:
    return ObjectRef(id)


def _reduce_ref(ref: ObjectRef[Any], refs: list[Any]) -> tuple[Any, ...]:
    runtime = interface.current()
    if runtime is None:
        raise RayConnectionError
    return runtime.reduce_ref(ref, refs)
