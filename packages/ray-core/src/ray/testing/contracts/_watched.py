"""A transport whose poll waits outside of it, as that of a transport which watches it does."""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence

from ray.abc.transport import Connection, Found, Frame, Transport
from ray.clock import monotonic
from ray.testing.contracts._expect import expect

_LONG_S = 3600.0


class WatchedTransport(Transport):
    """Any other one; it is this one's from then on."""

    def __init__(self, inner: Transport) -> None:
        self.name = inner.name
        self._inner = inner
        self._fd = inner.fileno()
        self._is_prepared = False
        self._due = 0.0
        expect(self._fd >= 0, "a transport that can be watched has a descriptor")

    def poll(self, timeout_s: float | None) -> list[tuple[Connection, Sequence[Frame] | None]]:
        if not self._is_prepared:
            self._is_prepared = True
            limit_s = self._inner.prepare(_LONG_S)
            expect(limit_s is not None and limit_s <= _LONG_S, "prepare allows no longer wait than it was asked for")
            self._due = monotonic() + (limit_s or 0.0)
        left_s = max(0.0, self._due - monotonic())
        if timeout_s is not None:
            left_s = min(left_s, timeout_s)
        waiting = select.poll()
        waiting.register(self._fd, select.POLLIN)
        if not waiting.poll(left_s * 1000) and monotonic() < self._due:
            return []
        self._is_prepared = False
        return self._inner.poll(0.0)

    def listen(self, hint: str) -> str:
        return self._inner.listen(hint)

    def dial(self, address: str, timeout_s: float = 5.0) -> Connection:
        return self._inner.dial(address, timeout_s)

    def dial_later(self, target: str, timeout_s: float = 5.0) -> tuple[Connection, Found]:
        return self._inner.dial_later(target, timeout_s)

    def contacts(self, address: str) -> Sequence[str]:
        return self._inner.contacts(address)

    def settle(self, timeout_s: float) -> bool:
        return self._inner.settle(timeout_s)

    def catch_up(self) -> None:
        self._inner.catch_up()

    def wake(self) -> None:
        self._inner.wake()

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        self._inner.watch(fd, on_readable)

    def unwatch(self, fd: int) -> None:
        self._inner.unwatch(fd)

    def close(self) -> None:
        self._inner.close()

    def abandon(self) -> None:
        self._inner.abandon()
