"""A way to a server that loses connections at chosen moments: before a request arrives, or before its answer does."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter


class CuttingProxy:
    """Listens on a port of the loopback interface, and passes on what clients and server say, until it is to cut.

    A cut hits requests that contain ``what``: ``before`` they arrive, ``after`` the server has answered, or ``late``:
    the client is cut off at once, and the server gets the request ``late_s`` later.
    """

    def __init__(self, target: tuple[str, int], *, seed: int = 0, what: bytes = b"EXEC") -> None:
        self.cuts: dict[str, float] = {}
        self.late_s = 0.2
        self.made: Counter[str] = Counter()
        self._target, self._what = target, what
        self._chance = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._run(self._accept)

    def _run(self, function, *arguments) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._run(self._pass_on, client)

    def _pass_on(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self._target) as server:
            self._open += [client, server]
            while request := client.recv(1 << 20):
                cut = self._choose(request)
                if cut == "before":
                    return
                if cut == "late":
                    client.shutdown(socket.SHUT_RDWR)
                    client.close()
                    time.sleep(self.late_s)
                    server.sendall(request)
                    time.sleep(0.05)
                    return
                server.sendall(request)
                answer = server.recv(1 << 20)
                if cut == "after":
                    return
                client.sendall(answer)
                server.settimeout(0.0005)
                with contextlib.suppress(TimeoutError):
                    while more := server.recv(1 << 20):
                        client.sendall(more)
                server.settimeout(None)

    def _choose(self, request: bytes) -> str:
        if self._what not in request:
            return ""
        for name, probability in self.cuts.items():
            if self._chance.random() < probability:
                self.made[name] += 1
                return name
        return ""

    def close(self) -> None:
        for end in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(5)
