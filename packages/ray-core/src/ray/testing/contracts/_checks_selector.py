"""What every selector must do. Each check takes a ``SelectorSubject``."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, cast

import ray
from ray.abc.selector import ObjectSelector
from ray.clock import monotonic
from ray.exceptions import RayError
from ray.ids import FIRST_RETURN
from ray.protocol.references import FAILED, READY
from ray.runtime import interface
from ray.runtime.owner.owner import OwnerRuntime
from ray.serialization import serialize
from ray.testing.contracts._expect import eventually, expect, expect_equal, expect_raises, in_time, leaping_time

#: A wait that must end by itself may take this much longer than asked for, on a machine with other things to do.
LATE_S = 2.0


class SelectorSubject:
    """A way to make selectors, and objects that become ready when told to."""

    def __init__(self, make: Callable[[Any], ObjectSelector]) -> None:
        """Prepare; this process has a session with processes.

        Args:
            make: makes a selector over the objects of a session.
        """
        self._make = make
        self.runtime: OwnerRuntime = cast("OwnerRuntime", interface.current_session())

    @contextlib.contextmanager
    def selector(self) -> Iterator[ObjectSelector]:
        """A new selector, closed at the end."""
        selector = self._make(self.runtime)
        try:
            yield selector
        finally:
            selector.close()

    def pending(self) -> ray.ObjectRef[Any]:
        """An object that nobody has made yet."""
        return ray.ObjectRef(self.runtime.table.own(self.runtime.next_id() + FIRST_RETURN))

    def ready(self) -> ray.ObjectRef[Any]:
        """An object that is there."""
        return ray.put(1)

    def complete(self, ref: ray.ObjectRef[Any]) -> None:
        """Make a pending object, as the thread that receives messages does."""
        with self.runtime.lock:
            ref._entry.table.complete(ref._entry, READY, serialize(1).to_bytes())

    def fail(self, ref: ray.ObjectRef[Any]) -> None:
        """Have a pending object fail."""
        error = self.runtime.reports.envelope(RayError("as asked"), "", b"", 0)
        with self.runtime.lock:
            ref._entry.table.complete(ref._entry, FAILED, error)

    def soon(self, action: Callable[[], None], after_s: float = 0.05) -> threading.Timer:
        """Have another thread do something in a moment."""
        timer = threading.Timer(after_s, action)
        timer.daemon = True
        timer.start()
        return timer


Check: TypeAlias = Callable[[SelectorSubject], None]


class Holder:
    """Something that has a ref, as the futures of an event loop do."""

    def __init__(self, ref: ray.ObjectRef[Any]) -> None:
        self.object_id = ref


def selected(selector: ObjectSelector, timeout_s: float | None = 0, max_keys: int | None = None) -> list[bytes]:
    """The ids that one ``select`` reports, in time or not at all."""
    found: list[bytes] = []
    in_time(
        lambda: found.extend(key.fd for key in selector.select(timeout_s, max_keys)), f"select({timeout_s}) returns"
    )
    return found


def keys_say_what_was_registered(subject: SelectorSubject) -> None:
    """Refs, and whatever has one, are known by the id."""
    with subject.selector() as selector:
        ref, holder = subject.pending(), Holder(subject.pending())
        key = selector.register(ref)
        expect_equal(key, (ref, ref.binary(), None, None), "a key has the ref, its id, and None twice")
        key = selector.register(holder, 3, "mine")
        expect_equal(key, (holder, holder.object_id.binary(), 3, "mine"), "a key has what was registered")
        expect_equal(selector.get_key(holder), key, "get_key finds what was registered")
        expect_equal(selector.get_key(holder.object_id), key, "get_key finds it by its ref")
        expect_equal(selector.get_key(key.fd), key, "get_key finds it by its id")
        expect_equal(set(selector.get_map()), {ref.binary(), key.fd}, "get_map has the ids")
        expect_equal(selector.get_map()[key.fd], key, "get_map has the keys")
        expect_equal(selector.unregister(holder), key, "unregister returns the key")
        expect_equal(list(selector.get_map()), [ref.binary()], "get_map has what is still registered")


def nothing_is_registered_twice(subject: SelectorSubject) -> None:
    """By its id, whatever object it comes in."""
    with subject.selector() as selector:
        ref = subject.pending()
        key = selector.register(ref, data="first")
        for again in (ref, Holder(ref)):
            with expect_raises(ValueError, "to register an id twice is an error"):
                selector.register(again, data="second")
        expect_equal(selector.get_key(ref), key, "the first registration stands")
        selector.unregister(ref)
        selector.register(ref)
        expect_equal(list(selector.get_map()), [ref.binary()], "what was unregistered may be registered again")


def what_is_no_object_is_refused(subject: SelectorSubject) -> None:
    """It would never be ready."""
    with subject.selector() as selector:
        for wrong in (3, None, "text", Holder(None), ray.ObjectRef.nil()):  # type: ignore[arg-type]
            with expect_raises(ValueError, "what has no object cannot be registered"):
                selector.register(wrong)
        expect_equal(dict(selector.get_map()), {}, "nothing is registered")


def what_is_not_registered_is_a_key_error(subject: SelectorSubject) -> None:
    """In every method that asks for it."""
    with subject.selector() as selector:
        ref = subject.pending()
        for ask in (selector.unregister, selector.modify, selector.get_key):
            with expect_raises(KeyError, "what is not registered is a KeyError"):
                ask(ref)
        with expect_raises(KeyError, "an unknown id is a KeyError"):
            selector.get_key(ref.binary())
        expect(ref.binary() not in selector.get_map(), "get_map has only what is registered")


def modify_replaces_the_data(subject: SelectorSubject) -> None:
    """And nothing else; what is ready stays so."""
    with subject.selector() as selector:
        waiting, ready = Holder(subject.pending()), subject.ready()
        selector.register(waiting, 1, "old")
        selector.register(ready, 1, "old")
        selector.select(0)
        for fileobj in (waiting, ready):
            key = selector.modify(fileobj, 2, "new")
            expect_equal((key.fileobj, key.events, key.data), (fileobj, 2, "new"), "modify returns the new key")
            expect_equal(selector.get_key(fileobj), key, "get_key has the new key")
        expect_equal([key.data for key in selector.select(0)], ["new"], "select reports the new key")
        subject.complete(waiting.object_id)
        eventually(lambda: len(selector.select(0)) == 2, "what was modified is still watched")


def what_was_ready_before_is_reported(subject: SelectorSubject) -> None:
    """Ready or failed before ``register``."""
    with subject.selector() as selector:
        ready, failed = subject.ready(), subject.pending()
        subject.fail(failed)
        for ref in (ready, failed):
            selector.register(ref)
        expect_equal(set(selected(selector)), {ready.binary(), failed.binary()}, "what is ready already is reported")


def what_becomes_ready_is_reported(subject: SelectorSubject) -> None:
    """By a ``select`` that waits, and by one that looks."""
    for wait_s in (None, 10.0):
        with subject.selector() as selector:
            first, second = subject.pending(), subject.pending()
            selector.register(first)
            selector.register(second)
            expect_equal(selected(selector), [], "what is pending is not reported")
            timer = subject.soon(lambda ref=second: subject.complete(ref))  # type: ignore[misc]
            expect_equal(selected(selector, wait_s), [second.binary()], "a waiting select reports what becomes ready")
            timer.join()
            subject.complete(first)
            eventually(lambda: len(selector.select(0)) == 2, "a select that looks reports it too")


def failures_are_reported(subject: SelectorSubject) -> None:
    """A failed object is as ready as any other."""
    with subject.selector() as selector:
        ref = subject.pending()
        selector.register(ref)
        subject.soon(lambda: subject.fail(ref))
        expect_equal(selected(selector, 10), [ref.binary()], "what fails is reported")


def ready_stays_ready(subject: SelectorSubject) -> None:
    """Level-triggered: reported until it is unregistered, and again after it is registered again."""
    with subject.selector() as selector:
        ref, other = subject.pending(), subject.pending()
        selector.register(ref)
        selector.register(other)
        subject.complete(ref)
        eventually(lambda: selector.select(0), "what becomes ready is reported")
        for _ in range(3):
            expect_equal(selected(selector, 10), [ref.binary()], "what is ready is reported every time")
        selector.unregister(ref)
        expect_equal(selected(selector, 0), [], "what is unregistered is not reported")
        selector.register(ref)
        expect_equal(selected(selector, 10), [ref.binary()], "what is registered again is reported again")


def word_of_what_was_unregistered_is_dropped(subject: SelectorSubject) -> None:
    """Also where it comes after the id was registered again."""
    with subject.selector() as selector:
        ref, other = subject.pending(), subject.pending()
        selector.register(other)
        selector.register(ref)
        subject.complete(ref)
        selector.unregister(ref)
        expect_equal(selected(selector, 0.05), [], "what is unregistered is not reported")
        selector.register(ref, data="again")
        expect_equal([key.data for key in selector.select(10)], ["again"], "the key is the last one")


def timeouts_are_kept(subject: SelectorSubject) -> None:
    """0 looks; anything else waits, and not for long after."""
    with subject.selector() as selector:
        selector.register(subject.pending())
        for timeout_s in (0.0, -1.0, 0.05, 0.3):
            started = monotonic()
            expect_equal(selected(selector, timeout_s), [], "nothing is ready")
            took_s = monotonic() - started
            expect(took_s >= timeout_s, f"select({timeout_s}) waits for its time: it took {took_s:.4f} s")
            expect(took_s < max(timeout_s, 0) + LATE_S, f"select({timeout_s}) ends in time: it took {took_s:.1f} s")


def timeouts_go_by_the_real_clock(subject: SelectorSubject) -> None:
    """See ``ray.clock``."""
    with leaping_time():
        timeouts_are_kept(subject)


def an_early_end_needs_no_more_time(subject: SelectorSubject) -> None:
    """A wait ends with the first object."""
    with subject.selector() as selector:
        ref = subject.pending()
        selector.register(ref)
        selector.register(subject.pending())
        subject.soon(lambda: subject.complete(ref))
        started = monotonic()
        expect_equal(selected(selector, 60), [ref.binary()], "select ends with the first object")
        expect(monotonic() - started < LATE_S, "select ends as soon as an object is ready")


def with_nothing_registered_it_waits_for_its_time(subject: SelectorSubject) -> None:
    """A loop that sleeps must not spin; one that would wait for ever goes on."""
    with subject.selector() as selector:
        for timeout_s in (0, 0.1):
            started = monotonic()
            expect_equal(selected(selector, timeout_s), [], "nothing is registered")
            expect(monotonic() - started >= timeout_s, "select waits for its time with nothing registered")
        expect_equal(selected(selector, None), [], "with nothing to wait for, select(None) returns at once")


def max_keys_limits_and_takes_turns(subject: SelectorSubject) -> None:
    """No waiter is held up by those that stay."""
    with subject.selector() as selector:
        refs = [subject.ready() for _ in range(10)]
        for ref in refs:
            selector.register(ref)
        seen: list[bytes] = []
        for _ in range(4):
            ids = selected(selector, 0, 3)
            expect_equal(len(ids), 3, "no more than max_keys are reported")
            seen += ids
        expect_equal(len(set(seen)), 10, "those that stay registered take turns")
        expect_equal(len(selected(selector, 0, 100)), 10, "max_keys may be more than there are")


def all_that_is_ready_is_reported_at_once(subject: SelectorSubject) -> None:
    """Not only the first."""
    with subject.selector() as selector:
        refs = [subject.pending() for _ in range(200)]
        for ref in refs:
            selector.register(ref)
        for ref in refs[::2]:
            subject.complete(ref)
        wanted = {ref.binary() for ref in refs[::2]}
        eventually(
            lambda: {key.fd for key in selector.select(0)} == wanted, "everything ready, and no more, is reported"
        )


def completions_from_many_threads_are_all_reported(subject: SelectorSubject) -> None:
    """Each exactly once, by a loop that unregisters what it is told of."""
    with subject.selector() as selector:
        refs = [subject.pending() for _ in range(400)]
        for ref in refs:
            selector.register(ref)

        def complete_some(part: int) -> None:
            for ref in refs[part::4]:
                subject.complete(ref)

        threads = [subject.soon(lambda part=part: complete_some(part), 0.001) for part in range(4)]  # type: ignore[misc]
        seen: list[bytes] = []

        def drain() -> None:
            while selector.get_map():
                for key in selector.select(10):
                    selector.unregister(key.fileobj)
                    seen.append(key.fd)

        in_time(drain, "every completion ends a select")
        expect_equal(sorted(seen), sorted(ref.binary() for ref in refs), "each object is reported once")
        for thread in threads:
            thread.join()


REQUIRED: tuple[Check, ...] = (
    keys_say_what_was_registered,
    nothing_is_registered_twice,
    what_is_no_object_is_refused,
    what_is_not_registered_is_a_key_error,
    modify_replaces_the_data,
    what_was_ready_before_is_reported,
    what_becomes_ready_is_reported,
    failures_are_reported,
    ready_stays_ready,
    word_of_what_was_unregistered_is_dropped,
    timeouts_are_kept,
    timeouts_go_by_the_real_clock,
    an_early_end_needs_no_more_time,
    with_nothing_registered_it_waits_for_its_time,
    max_keys_limits_and_takes_turns,
    all_that_is_ready_is_reported_at_once,
    completions_from_many_threads_are_all_reported,
)
