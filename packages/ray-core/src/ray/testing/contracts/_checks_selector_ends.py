"""What a selector must do at its edges: its descriptor, what it keeps, and its end."""

from __future__ import annotations

import gc
import select
import weakref

import ray
from ray.testing.contracts._checks_selector import Check, SelectorSubject
from ray.testing.contracts._expect import eventually, expect, expect_equal, expect_raises


def a_descriptor_shows_what_select_would(subject: SelectorSubject) -> None:
    """Where there is one: readable if, and only if, something is ready."""
    with subject.selector() as selector:
        fd = selector.fileno()
        if fd is None:
            return
        poll = select.poll()
        poll.register(fd, select.POLLIN)

        def readable() -> bool:
            return bool(poll.poll(0))

        first, second = subject.pending(), subject.pending()
        selector.register(first)
        selector.register(second)
        expect(not readable(), "the descriptor is not readable while nothing is ready")
        subject.complete(first)
        eventually(readable, "the descriptor is readable when something is ready")
        selector.select(0)
        expect(readable(), "the descriptor is readable while something ready is registered")
        subject.complete(second)
        selector.unregister(first)
        selector.select(0)
        expect(readable(), "the descriptor is readable while something ready is registered")
        selector.unregister(second)
        selector.select(0)
        expect(not readable(), "the descriptor is not readable once nothing ready is registered")


def it_keeps_what_is_registered_and_nothing_else(subject: SelectorSubject) -> None:
    """An object lives while a waiter may still want it."""
    with subject.selector() as selector:
        ref = subject.pending()
        gone = weakref.ref(ref)
        selector.register(ref)
        subject.complete(ref)
        eventually(lambda: selector.select(0), "what becomes ready is reported")
        del ref
        gc.collect()
        (key,) = selector.select(0)
        expect(key.fileobj is gone(), "what is registered is kept")
        selector.unregister(key.fileobj)
        del key
        selector.select(0)
        gc.collect()
        expect(gone() is None, "what is unregistered is let go")


def a_closed_selector_lets_go(subject: SelectorSubject) -> None:
    """And answers nothing any more; a thread that completes an object later is not disturbed."""
    with subject.selector() as selector:
        ref = subject.pending()
        gone = weakref.ref(ref)
        selector.register(ref)
        selector.close()
        selector.close()
        expect_equal(dict(selector.get_map()), {}, "nothing is registered with a closed selector")
        subject.complete(ref)
        for use in (lambda: selector.select(0), lambda: selector.register(subject.ready())):
            with expect_raises(RuntimeError, "a closed selector cannot be used"):
                use()
        del ref, use
        gc.collect()
        expect(gone() is None, "a closed selector keeps nothing")


def the_end_of_the_session_is_reported(subject: SelectorSubject) -> None:
    """Nothing can follow, and a loop must not wait for it. Ends the session."""
    with subject.selector() as selector:
        refs = [subject.pending() for _ in range(3)]
        for ref in refs:
            selector.register(ref)
        thread = subject.soon(ray.shutdown)
        eventually(lambda: len(selector.select(0.05)) == 3, "everything is reported when the session ends")
        thread.join()
        for ref in refs:
            selector.unregister(ref)
        with expect_raises(ConnectionError, "a ref of a session that has ended is refused"):
            selector.register(refs[0])


REQUIRED: tuple[Check, ...] = (
    a_descriptor_shows_what_select_would,
    it_keeps_what_is_registered_and_nothing_else,
    a_closed_selector_lets_go,
    the_end_of_the_session_is_reported,
)
