"""A store without a session, and processes that use it and are killed. Nothing here knows which store it is."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

from ray.abc import Store, StoreServer
from ray.plugins import Composition, resolve_plan

#: A test fails when what must happen has not happened after so long; how long it took is another question.
LIMIT_S = 10.0


def an_id(number: int) -> bytes:
    return b"store---clients-" + number.to_bytes(4, "big")


class Child:
    """A forked process that does ``work``, which is given a function to say that it has come to a certain point."""

    def __init__(self, work: Callable[[Callable[[], object]], object]) -> None:
        self._told, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            status = 1
            try:
                work(lambda: os.write(write, b"!"))
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(write)

    def told(self) -> None:
        """Wait until it says so."""
        assert os.read(self._told, 1) == b"!", "it has ended before"

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def join(self) -> int:
        """Wait for its end; the status is that of ``os.waitpid``."""
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        os.close(self._told)
        return status


class Node:
    """A store's server, the clients of this process, and the processes that the test starts."""

    def __init__(self, store: str, folder: str, capacity_bytes: int) -> None:
        self._composition = Composition(resolve_plan(store=store))
        self.server: StoreServer = self._composition.start_store(folder, capacity_bytes)
        self._clients: list[Store] = []
        self._children: list[Child] = []

    def open(self) -> Store:
        """A client, for whichever process asks; this one closes its own at the end."""
        return self._composition.open_store(self.server.address)

    def connect(self) -> Store:
        self._clients.append(self.open())
        return self._clients[-1]

    def fork(self, work: Callable[[Callable[[], object]], object]) -> Child:
        self._children = [child for child in self._children if child.pid]
        self._children.append(Child(work))
        return self._children[-1]

    def is_alive(self) -> bool:
        """Whether the server's process has not ended; it is not reaped here."""
        return os.waitid(os.P_PID, self.server.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def close(self) -> None:
        for child in self._children:
            if child.pid:
                child.kill()
                child.join()
        for client in self._clients:
            client.close()
        self.server.close()
