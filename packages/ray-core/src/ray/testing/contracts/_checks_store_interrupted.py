"""What every store must do when finalisers and signal handlers use it inside calls of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import ray.answers
import ray.held_objects
from ray.abc.store import Store
from ray.testing.contracts._checks_store import Check, StoreSubject, an_id, read
from ray.testing.contracts._expect import eventually, expect, expect_equal, in_time
from ray.testing.faulty_store import FaultyStore
from ray.testing.interruption import interrupted

#: At so many of its points a call is interrupted, about.
_TRIES = 60
#: Small, and large enough for what stores do with large ones only.
_SIZES = (10, 100_000)
_OUTER, _INNER, _LAST, _SHARED = map(an_id, range(4))


def _is_code_of(store: Store, path: str) -> bool:
    if isinstance(store, FaultyStore):  # whose own lock is nobody's concern
        store = store.inner
    files = [sys.modules[kind.__module__].__file__ or "" for kind in type(store).__mro__[:-1]]
    shared = (ray.answers.__file__, ray.held_objects.__file__)
    return path in shared or path.startswith(tuple(os.path.dirname(file) + os.sep for file in files))


def _at_every_point(store: Store, call: Callable[[], object], interrupt: Callable[[], object], rule: str) -> None:
    """Have the call interrupted at one point after the other; what is interrupted may wait, but not for itself."""
    point = points = 1
    while point <= points:

        def attempt(point: int = point) -> None:
            nonlocal points
            _, points = interrupted(call, point, interrupt, lambda path: _is_code_of(store, path))

        in_time(attempt, rule)
        point += 1 + points // _TRIES
    expect(points > 1, "a call of a store has points at which it can be interrupted")


def _use(store: Store, object_id: bytes, data: bytes) -> None:
    """Put, get, compare, release and delete."""
    store.put(object_id, [data], len(data))
    expect_equal(read(store, object_id), data, "what is put inside a call of the store can be read there")
    store.delete(object_id)


def puts_interrupt_puts(subject: StoreSubject) -> None:
    store, before = subject.store, subject.store.stats()
    for size in _SIZES:
        outer, inner = b"o" * size, b"i" * size
        _at_every_point(
            store,
            lambda outer=outer: _use(store, _OUTER, outer),  # type: ignore[misc]
            lambda inner=inner: _use(store, _INNER, inner),  # type: ignore[misc]
            "a put inside a call of the store ends, and so does that call",
        )
    eventually(lambda: store.stats() == before, "calls that interrupt each other leave nothing behind", 2.0)


def creations_interrupt_creations(subject: StoreSubject) -> None:
    store, before = subject.store, subject.store.stats()

    def make(object_id: bytes) -> None:
        view = store.create(object_id, 1000)
        view[:] = object_id[-1:] * 1000
        view.release()
        store.seal(object_id)
        expect_equal(
            read(store, object_id), object_id[-1:] * 1000, "get returns the bytes that were written before seal"
        )
        store.delete(object_id)
        store.create(object_id, 1000)
        store.abort(object_id)

    _at_every_point(
        store,
        lambda: make(_OUTER),
        lambda: make(_INNER),
        "an object is made inside a call of the store, and around one",
    )
    eventually(lambda: store.stats() == before, "calls that interrupt each other leave nothing behind", 2.0)


def uses_of_one_object_interrupt_each_other(subject: StoreSubject) -> None:
    """Each of them has its own hold, also of an object that is deleted meanwhile."""
    store, before = subject.store, subject.store.stats()
    for size in _SIZES:
        for deletes in (False, True):
            data = b"s" * size
            held: list[memoryview] = []

            def hold(data: bytes = data, held: list[memoryview] = held) -> None:
                view = store.get(_SHARED)
                if view is not None:
                    expect_equal(bytes(view), data, "get inside a get returns the bytes of the object")
                    held.append(view)

            def let_go(held: list[memoryview] = held) -> None:
                if held:
                    held.pop()
                    store.release(_SHARED)

            def outer(deletes: bool = deletes, data: bytes = data) -> None:
                hold()
                hold()
                let_go()
                if deletes:
                    store.delete(_SHARED)
                let_go()
                let_go()

            def inner() -> None:
                hold()
                hold()
                let_go()
                let_go()

            def call(data: bytes = data) -> None:
                store.put(_SHARED, [data], len(data))
                try:
                    outer()
                finally:
                    store.delete(_SHARED)

            _at_every_point(store, call, inner, "an object is used inside a call that uses it, and around one")
            while held:
                let_go()
            eventually(lambda: store.stats() == before, "every hold is released once, whatever interrupts it", 2.0)


def others_go_on_while_a_call_is_interrupted(subject: StoreSubject) -> None:
    """What interrupts a call may wait for another thread, which uses the store as well."""
    store, before = subject.store, subject.store.stats()
    data = b"x" * 1000
    store.put(_SHARED, [data], len(data))

    def inner() -> None:
        in_time(lambda: _use(store, _INNER, data), "other threads use the store while a call of it is interrupted")

    def outer() -> None:
        _use(store, _OUTER, data)
        view = store.get(_SHARED)
        del view
        store.release(_SHARED)

    _at_every_point(store, outer, inner, "a call ends in which others use the store")
    store.delete(_SHARED)
    eventually(lambda: store.stats() == before, "calls that interrupt each other leave nothing behind", 2.0)


INTERRUPTED: tuple[Check, ...] = (
    puts_interrupt_puts,
    creations_interrupt_creations,
    uses_of_one_object_interrupt_each_other,
    others_go_on_while_a_call_is_interrupted,
)
