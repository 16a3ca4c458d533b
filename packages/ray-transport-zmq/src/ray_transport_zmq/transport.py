"""The transport: two hubs, and the polling thread.

The descriptor of a ZeroMQ socket becomes readable once per change, for the thread that looks first. So any thread that
uses a socket while another waits looks whether messages have arrived and, if so, wakes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections import deque
from collections.abc import Callable, Sequence

import zmq

from ray.abc.transport import Connection, Found, Frame, Transport
from ray.clock import monotonic
from ray_transport_zmq import sockets, wire
from ray_transport_zmq.connection import CLOSE_FLUSH_S, ZmqConnection
from ray_transport_zmq.curve import Authenticator, Keys, read_keys, session_keys
from ray_transport_zmq.descriptors import check_room
from ray_transport_zmq.gate import Gate, has_few_descriptors, shut
from ray_transport_zmq.hub import Events, Hub
from ray_transport_zmq.last_words import abort_reason
from ray_transport_zmq.options import ZmqOptions
from ray_transport_zmq.settling import IoThread, await_sent
from ray_transport_zmq.waiting import Poller, Wakeup

_MAX_PATH_BYTES = 100
#: How long ``close`` waits at once while another thread may be doing the work.
_LOOK_S = 0.01


class ZmqTransport(Transport):
    """Sockets named ``<session_dir>/<hint>.sock``, or ports of one interface."""

    name = "zmq"

    def __init__(self, session_dir: str, options: ZmqOptions | None = None) -> None:
        """Open it; threads and sockets come with the first ``listen`` or ``dial``.

        Args:
            session_dir: where sockets, and keys without a ``key_file``, are kept; for the user only.
            options: those of the plugin.

        Raises:
            PluginError: ZeroMQ is not fit for use, or there are no keys where they are needed.
        """
        sockets.check_library()
        self._options = options or ZmqOptions()
        self._dir = session_dir
        self._pid = os.getpid()
        self._keys: Keys | None = None
        if self._options.scheme == "tcp":
            key_file = self._options.key_file
            self._keys = read_keys(key_file) if key_file else session_keys(session_dir)
        self._context: sockets.Context | None = None
        self._io_thread = IoThread()
        #: ``Hub.last`` when all that was handed to ZeroMQ was known to be with the system.
        self._settled: list[object] = []
        self._inbox: Events = deque()
        #: What the next ``poll`` to end returns.
        self._taken: list[tuple[Connection, Sequence[Frame] | None]] = []
        #: Connections with a message that a call of ``send`` is about to hand over, unless it is interrupted in that.
        self._unsent: dict[ZmqConnection, None] = {}
        #: Of the listening socket, where it has one.
        self._path = ""
        #: Where this process may have few descriptors.
        self._gate: Gate | None = None
        self._connector: Hub | None = None
        self._hubs: list[Hub] = []
        self._poller = Poller()
        #: {descriptor: callback}
        self._watched: dict[int, Callable[[], None]] = {}
        self._wakeup = Wakeup()
        self.watch(self._wakeup.fd, self._wakeup.clear)
        #: A thread waits, or is about to, and must be woken for messages that ZeroMQ has taken in already.
        self._waiting = False
        #: The same, where it is another transport's poll that waits for this one.
        self._watching = False
        self._closed = False

    # --- ends -----------------------------------------------------------------------------------------------------

    def listen(self, hint: str) -> str:
        if self._options.scheme == "tcp":
            return self._listen_on_port(self._options.host)
        path = os.path.join(self._dir, f"{hint}.sock")
        if len(os.fsencode(path)) > _MAX_PATH_BYTES:
            raise OSError(
                f"socket path is longer than {_MAX_PATH_BYTES} bytes: {path}; set TMPDIR to a shorter directory"
            )
        if os.path.lexists(path):  # ZeroMQ would take it over
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
        hub = self._add_hub(accepts=True)
        address = hub.bind(f"ipc://{path}")
        self._path = path
        if has_few_descriptors():
            self._gate = shut(hub.monitor, self)
        os.chmod(path, 0o600)
        return address

    def _listen_on_port(self, host: str) -> str:
        ports = self._options.port_range or range(1)  # that is 0: the system chooses
        first = int.from_bytes(os.urandom(4), "big") % len(ports)  # others look for one at the same time
        hub = self._add_hub(accepts=True)
        for port in (*ports[first:], *ports[:first]):
            try:
                return hub.bind(f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}")
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRINUSE, f"each of the ports {self._options.ports} is in use", host)

    def dial(self, address: str, timeout_s: float = 5.0) -> ZmqConnection:
        if not address.startswith(f"{self._options.scheme}://"):
            raise ConnectionError(f"{address!r} is not an address of transport='zmq' over {self._options.scheme}")
        hub = self._hub_to_dial(address)
        connection = ZmqConnection(self, hub)
        hub.monitor.read()  # what it tells of this address so far is not about this connection
        hub.dials.begin(connection, address, timeout_s)
        self._wakeup.set()  # the thread that polls is to mind its time, and what was read here
        return connection

    def dial_later(self, target: str, timeout_s: float = 5.0) -> tuple[ZmqConnection, Found]:
        hub = self._hub_to_dial(target)
        connection = ZmqConnection(self, hub)
        hub.dials.begin(connection, "", timeout_s, target)

        def found(address: str, reason: str) -> None:
            if not self._closed:
                hub.monitor.read()
                hub.dials.found(connection, address, reason)
                self._wakeup.set()

        return connection, found

    def _hub_to_dial(self, target: str) -> Hub:
        try:
            check_room(self._wakeup.fd)
        except OSError as error:
            raise ConnectionError(f"cannot connect to {target}: {error}") from error
        hub = self._connector
        if hub is None:
            hub = self._add_hub(accepts=False)
            self._connector = self._connector or hub
        return hub

    def _go_on_dialling(self) -> None:
        """From other calls than ``poll``."""
        for hub in self._hubs:
            if hub.dials.open:
                hub.monitor.read()
                hub.dials.go_on()
                self._wakeup.set()

    def _add_hub(self, *, accepts: bool) -> Hub:
        if self._closed:
            raise ConnectionError("the transport is closed")
        context = self._context or self._adopt(sockets.acquire())
        if self._keys is not None and accepts:
            if context.authenticator is None:
                context.authenticator = Authenticator(context.zmq)
            context.authenticator.allow(self._keys.allowed)
        socket = sockets.router(context, self._options.scheme, self._keys, listens=accepts)
        if ":" in self._options.host:
            socket.set(zmq.IPV6, 1)
        hub = Hub(context, socket, self._inbox, lambda hub: ZmqConnection(self, hub), accepts=accepts)
        self._hubs.append(hub)
        for fd in hub.fds:
            self._poller.register(fd)
        return hub

    def _adopt(self, context: sockets.Context) -> sockets.Context:
        if self._context is None:
            self._context = context
        else:  # another call was quicker
            sockets.release(context)
        return self._context

    # --- sending, from any thread -----------------------------------------------------------------------------------

    def submit(self, connection: ZmqConnection, units: list[wire.Unit], frames: Sequence[Frame]) -> None:
        """Send a message, given to ``send`` as ``frames``, now or when the peer has room."""
        self._unsent[connection] = None
        nbytes = sum([unit[0] for unit in units])
        queued = iter(units)
        if frames.__class__ is list:  # see Connection.send; from here on no call comes between, until it is queued
            if frames[0] is None:
                return
            frames[0] = None
        connection.queued += nbytes
        connection.queue.extend(queued)
        self._hand_over(connection)
        self._wake_for_messages()

    def catch_up(self) -> None:
        for connection in self._unsent.copy():
            self._hand_over(connection)

    def _hand_over(self, connection: ZmqConnection) -> None:
        if connection.closed:
            connection.drop_queue()
        else:
            connection.hub.flush(connection)
        if not connection.queue:
            self._unsent.pop(connection, None)

    def end(self, connection: ZmqConnection) -> None:
        """Carry out what ``abort`` has decided."""
        if self._pid == os.getpid() and not self._closed:
            connection.hub.end(connection)
            self._wake_for_messages()

    def _wake_for_messages(self) -> None:
        """A socket was used: what ZeroMQ has taken in with that, it will not announce again."""
        is_awaited = self._waiting or self._watching
        if is_awaited and any(hub.is_touched and hub.has_news() for hub in self._hubs):
            self._wakeup.set()

    def _flush_all(self) -> None:
        """Send what other threads may be about to send."""
        for hub in self._hubs:
            for connection in hub.connections:
                if connection.queue:
                    hub.flush(connection)

    def abort_reason(self, last_words: Sequence[str]) -> str:
        return abort_reason(last_words)

    def settle(self, timeout_s: float) -> bool:
        deadline = monotonic() + timeout_s
        while any(hub.dials.hold_back() for hub in self._hubs):
            self._go_on_dialling()
            left_s = deadline - monotonic()
            if left_s <= 0:
                return False
            self._await_news(left_s)
        self._flush_all()
        self._wake_for_messages()
        last = [hub.last for hub in self._hubs]
        if last == self._settled:
            return True
        self._io_thread.find()
        fds = [fd for hub in self._hubs for fd in hub.peer_fds] if self._options.scheme == "tcp" else []
        if not self._io_thread.await_rest(deadline) or not await_sent(fds, deadline):
            return False
        self._settled = last
        return True

    # --- polling, by one thread at a time ---------------------------------------------------------------------------

    def poll(self, timeout_s: float | None) -> list[tuple[Connection, Sequence[Frame] | None]]:
        is_inside, self._waiting = self._waiting, True
        if self._unsent:
            self.catch_up()
        self._pump([hub for hub in self._hubs if hub.is_touched])
        timeout_s = self._wait_s(timeout_s)
        try:
            ready = self._poller.poll(timeout_s)
        except (OSError, ValueError):
            if self._closed:  # by another thread: the process is about to end
                return []
            raise
        self._waiting = False  # and stays True if a signal handler raised; that costs a wake-up or two
        self._watching = False
        if is_inside:  # the call that this one interrupts is not to wait for what was taken in here
            self._wakeup.set()
        arrived = set()
        for fd, _ in ready:
            callback = self._watched.get(fd)
            if callback is not None:
                callback()
            else:
                arrived.add(fd)
        if arrived:
            for hub in self._hubs:
                if hub.fds[1] in arrived:
                    hub.monitor.read()
            self._pump([hub for hub in self._hubs if hub.is_touched or not arrived.isdisjoint(hub.fds)])
        for hub in self._hubs:
            if hub.dials.open:
                hub.dials.go_on()
            if len(hub.monitor.strangers):
                hub.turn_away()
        rest: list[tuple[Connection, Sequence[Frame] | None]] = []
        with contextlib.suppress(IndexError):  # it is empty
            self._taken.extend(iter(self._inbox.popleft, None))
        # In one go: a call that interrupts this one finds them either all or not at all.
        events = self._taken
        self._taken = rest
        return events

    def _wait_s(self, timeout_s: float | None) -> float | None:
        """Go on with what is being dialled; how long one may wait then, of ``timeout_s``."""
        for hub in self._hubs:
            if hub.dials.open:
                hub.monitor.read()  # a call that this one interrupts may have begun to
                timeout_s = 0.0 if hub.dials.go_on() else hub.dials.wait_s(timeout_s)
            timeout_s = hub.monitor.strangers.wait_s(timeout_s)
        if self._gate is not None:
            timeout_s = self._gate.wait_s(timeout_s)
        if self._inbox or self._taken or any(hub.is_touched for hub in self._hubs):
            return 0.0
        return timeout_s

    def fileno(self) -> int:
        return self._poller.fileno()

    def prepare(self, timeout_s: float | None) -> float | None:
        self._watching = True
        if self._unsent:
            self.catch_up()
        return self._wait_s(timeout_s)

    def _pump(self, hubs: list[Hub]) -> None:
        for hub in hubs:
            hub.pump()

    def wake(self) -> None:
        self._wakeup.set()

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        self._watched[fd] = on_readable
        self._poller.register(fd)

    def unwatch(self, fd: int) -> None:
        if self._watched.pop(fd, None) is not None:
            self._poller.unregister(fd)

    # --- closing ----------------------------------------------------------------------------------------------------

    def flush(self, connections: list[ZmqConnection], deadline: float) -> None:
        """Wait until all is sent or the time is over; takes messages meanwhile, as credits are among them."""
        while True:
            self._go_on_dialling()
            self._flush_all()
            self._pump(self._hubs)
            if self._inbox:
                self.wake()  # another thread may be waiting for them
            left_s = deadline - monotonic()
            if left_s <= 0 or not any(connection.queue and not connection.closed for connection in connections):
                return
            self._await_news(left_s)

    def _await_news(self, left_s: float) -> None:
        """Wait a while until ZeroMQ has something to tell."""
        waiting = select.poll()
        for fd in [fd for hub in self._hubs for fd in hub.fds]:
            waiting.register(fd, select.POLLIN)
        waiting.poll(min(left_s, _LOOK_S) * 1000)

    def close(self) -> None:
        if self._closed:
            return
        connections = [connection for hub in self._hubs for connection in hub.connections]
        self.flush(connections, monotonic() + CLOSE_FLUSH_S)
        self._closed = True
        if self._gate is not None:
            self._gate.close()
        for connection in connections:
            connection.hub.end(connection)
        for hub in self._hubs:
            for fd in hub.fds:
                self._poller.unregister(fd)
            hub.close()
        self._hubs.clear()
        if self._path:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        if self._context is not None:
            sockets.release(self._context)
            self._context = None
        self._forget()

    def abandon(self) -> None:
        if self._closed:  # its descriptors may be other files' by now
            return
        self._closed = True
        for hub in self._hubs:
            for connection in hub.connections:
                connection.closed = True
            hub.abandon()
        self._forget()

    def _forget(self) -> None:
        self._hubs.clear()
        self._unsent.clear()
        self._watched.clear()
        self._io_thread.close()
        self._poller.close()
        self._wakeup.close()


ZmqTransport.wait_code = Poller.poll.__code__
