"""Hints of changes: a connection of their own, on which the server tells each key that anybody has changed."""

from __future__ import annotations

from collections.abc import Callable

from ray.abc.answer_box import AnswerBox, Subscription
from ray.builtin.redis_control.failures import LinkLostError
from ray.builtin.redis_control.index import Index
from ray.builtin.redis_control.keys import KeySpace, untext
from ray.builtin.redis_control.link import Link
from ray.clock import monotonic

#: A connection that says nothing is asked whether it still stands.
PING_S = 5.0


class Hints:
    """Of one handle. One thread uses it; subscriptions come and go from any."""

    def __init__(self, keys: KeySpace, box: AnswerBox, connect: Callable[[], Link]) -> None:
        self._keys, self._box, self._connect = keys, box, connect
        self._subscriptions: set[Subscription] = set()
        self._link: Link | None = None
        self._was_lost = False
        self._next_ping = self._silent_since = 0.0

    def add(self, subscription: Subscription) -> None:
        """Tell it of changes from now on. Any thread."""
        self._subscriptions = self._subscriptions | {subscription}

    def remove(self, subscription: Subscription) -> None:
        """Do not, any more. Any thread; idempotent."""
        subscription.ended = True
        self._subscriptions = self._subscriptions - {subscription}

    @property
    def wanted(self) -> bool:
        """Whether there is a subscription."""
        return bool(self._subscriptions)

    def fileno(self) -> int:
        """Readable when there are some; -1: there is no connection."""
        return -1 if self._link is None else self._link.fileno()

    def next_s(self) -> float | None:
        """When ``tend`` is to be called at the latest, in seconds."""
        return None if self._link is None else max(0.0, self._next_ping - monotonic())

    def tend(self) -> None:
        """Take what has come, and see that there is a connection where one is needed, and none else.

        Raises:
            LinkLostError: it is lost, or cannot be made now.
            RefusedError: the server does not let it be made.
        """
        if not self._subscriptions:
            self.close()
            return
        try:
            link = self._link or self._listen()
            self._hear(link)
            self._ask_for_life(link)
        except BaseException:
            self._was_lost = True
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection. Idempotent."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def cut(self) -> None:
        """End what the thread waits for. Any thread."""
        link = self._link
        if link is not None:
            link.cut()

    def _listen(self) -> Link:
        link = self._link = self._connect()
        # What was changed while there was no connection is not told. So all keys are, that are there now.
        missed = self._was_lost
        names: dict[str, list[str]] = {}
        link.say("SUBSCRIBE", self._keys.hints)
        self._next_ping = monotonic() + PING_S
        self._silent_since = monotonic()
        if missed:
            reader = self._connect()
            try:
                for subscription in self._subscriptions:
                    prefix = subscription.prefix
                    if prefix not in names:
                        names[prefix] = Index(self._keys).names(reader, prefix)
                    for name in names[prefix]:
                        self._box.hint(subscription, name)
            finally:
                reader.close()
        self._was_lost = False
        return link

    def _hear(self, link: Link) -> None:
        while (heard := link.heard()) is not None:
            self._silent_since = monotonic()
            if isinstance(heard, list) and heard[0] == b"message":
                key = untext(heard[2])
                for subscription in self._subscriptions:
                    if key.startswith(subscription.prefix):
                        self._box.hint(subscription, key)

    def _ask_for_life(self, link: Link) -> None:
        now = monotonic()
        if now >= self._next_ping:
            if now - self._silent_since > 2 * PING_S:
                raise LinkLostError("it does not answer")
            link.say("PING")
            self._next_ping = now + PING_S
