"""Transport seam: messages of several frames between processes, and one poller per process.

A transport owns its process's reader loop primitive: ``poll``. The runtime has exactly one thread that polls; any
thread may send. A message is a sequence of frames (bytes-like); it arrives whole, once and in order, or the peer is
reported lost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, Final, TypeAlias

Frame: TypeAlias = "bytes | bytearray | memoryview"
#: How long ``connect`` polls at a time; a decision ends that at once.
_LOOK_S: Final = 0.1


class Connection(ABC):
    """One end of a two-way, ordered channel to a peer."""

    #: Free for the user of the connection: whatever it wants to find again when an event arrives.
    context: Any = None
    #: True once ``close`` or ``abort`` was called or the peer was lost; sends are then dropped silently.
    closed: bool = False
    #: True from ``dial`` until it is decided whether the connection stands; what is sent meanwhile is queued.
    dialling: bool = False
    #: Why it never stood; the text names the address, or the one of its contacts that was tried. Set before ``poll``
    #: reports the loss. None where it has stood.
    failure: ConnectionError | None = None

    @abstractmethod
    def send(self, frames: Sequence[Frame]) -> None:
        """Queue one message.

        Never blocks: what the peer cannot take now is kept and sent by the polling thread. Frames must not change until
        the peer has them. Safe from any thread. Messages of one thread arrive in its order. On a closed connection
        the message is dropped; the loss has been, or will be, reported by ``poll``.

        Finalisers and signal handlers may interrupt this, ``dial`` and ``poll``; they call the same, and wait for
        other threads. They may also have to send themselves what was about to be sent. So where ``frames`` is a list,
        its first item tells whose turn it is: this puts None there in the very step in which the message is queued,
        so that nothing interrupts it in between. If other code has put None there before, nothing is sent.
        """

    @abstractmethod
    def close(self) -> None:
        """Flush what is queued for a bounded time, then end. Idempotent; safe from any thread."""

    @abstractmethod
    def abort(self) -> None:
        """End now and drop what is queued. Idempotent; never blocks; safe in destructors and after a fork."""

    @property
    @abstractmethod
    def queued_bytes(self) -> int:
        """Bytes accepted by ``send`` that the peer has not been handed yet (for back-pressure)."""


Found: TypeAlias = Callable[[str, str], None]
"""Called once: with an address, or with an empty one and the reason why there is none."""
Find: TypeAlias = Callable[[int, str, Found], None]
"""Looks for the address under which others reach the process of that node which its own node knows by this one."""


class Transport(ABC):
    """A process's way to reach others. One instance per process, made after any fork."""

    name: str
    #: Code inside ``poll`` where a signal handler may raise without losing messages (typically a method that does
    #: nothing but the system call). With it, threads that wait for results poll by themselves; without it they never
    #: do. Ctrl-C is kept out of all other code in the directory of its module, so that is to be a package of its own.
    wait_code: CodeType | None = None

    @abstractmethod
    def listen(self, hint: str) -> str:
        """Accept connections from now on; the first message of each has to be small and to come soon, see
        ``ray.abc.strangers``.

        Args:
            hint: a short file-name-safe name for this end, such as ``"worker-4f2a"``.

        Returns:
            The contact address that peers pass to ``dial``, with its scheme (``"unix:/run/…"``).
        """

    @abstractmethod
    def dial(self, address: str, timeout_s: float = 5.0) -> Connection:
        """Begin to connect to a listener, and return at once; safe from any thread.

        What is sent before the connection stands is queued, and goes first. If it does not stand within ``timeout_s``,
        or nobody listens there, ``poll`` reports its loss, and its ``failure`` tells why; that may be set on return.
        A running or the next ``poll`` returns soon after the connection has ceased to be ``dialling``. ``close`` goes
        on dialling for the bounded time in which it flushes; ``abort`` gives up.

        Raises:
            ConnectionError: this transport cannot try: the address is of another kind, or this process lacks what it
                takes, such as a descriptor (EMFILE of the error's ``__cause__``). The text names the address.
        """

    def connect(self, address: str, timeout_s: float = 5.0) -> Connection:
        """Dial, and wait until the connection stands.

        For transports with no other connection, whose address nobody knows yet and that nobody else polls: this polls,
        and drops what others send. Never under a lock that others need.

        Raises:
            ConnectionError: as ``dial``, or it does not stand in time; the text names the address.
        """
        connection = self.dial(address, timeout_s)
        while connection.dialling:
            self.poll(_LOOK_S)
        if connection.failure is not None:
            self.poll(0.0)  # which reports it
            raise connection.failure
        return connection

    @abstractmethod
    def poll(self, timeout_s: float | None) -> list[tuple[Connection, Sequence[Frame] | None]]:
        """Wait for messages; the one blocking call of the reader thread.

        Returns:
            ``(connection, frames)`` per message in order of arrival; ``(connection, None)`` once when a peer is lost or
            closed. An accepted connection shows itself by its first message. Frames are the receiver's to keep; they
            are read-only or private to the receiver. May be empty (time over, ``wake``, or a watched descriptor).
        """

    def settle(self, timeout_s: float) -> bool:
        """Wait until what was sent depends on this process no longer: it arrives even if the process is killed then.

        What the system does not take, because the peer does not read, is beyond it. Safe from any thread. The default
        is for transports whose ``send`` hands over to the system itself.

        Returns:
            Whether it is so; False if the time is over, or if it cannot be known.
        """
        return True

    def listen_far(self, address: str) -> str:
        """See to it that processes of other nodes reach this one as well; safe from any thread.

        The default is for transports that have one listener for all, or reach no other nodes.

        Args:
            address: what ``listen`` has returned.

        Returns:
            The address to give away from now on; the one from before stays good for processes of this node.

        Raises:
            OSError: the system refuses.
            PluginError: this process lacks what it takes.
        """
        return address

    def node_in(self, address: str) -> int:
        """The number of the node that an address is of: 0 if it is that of this process, -1 if it is none.

        The default is for transports of one node.
        """
        return 0

    def find_with(self, find: Find) -> None:  # noqa: B027 - see the default
        """Have ``dial`` ask where a process of another node can be reached, if the address does not say it.

        The default is for transports whose addresses always do.
        """

    def dial_later(self, target: str, timeout_s: float = 5.0) -> tuple[Connection, Found]:
        """Dial a listener whose contact is still being looked for: as ``dial``, whose time begins when it is found.

        For transports that others watch.

        Args:
            target: how errors name it.
            timeout_s: as for ``dial``.

        Returns:
            The connection, and what is to be called with the contact; safe from any thread.
        """
        raise NotImplementedError(f"transport={self.name!r} cannot dial what is still looked for")

    def contacts(self, address: str) -> Sequence[str]:
        """Where ``dial`` may try, of all that an address says; errors of a dial name one of these.

        The default is for transports whose addresses are a contact each.

        Raises:
            ConnectionError: it is an address of another kind.
        """
        return (address,)

    def fileno(self) -> int:
        """A descriptor with which the poll of another transport watches this one: it is readable when ``poll`` would
        not wait.

        That one calls ``prepare`` before it waits, and ``poll(0.0)`` when the descriptor is readable; all on one
        thread at a time. The default, -1, is for transports that cannot be watched. What can has the capability
        ``watchable``, and one descriptor for life.
        """
        return -1

    def prepare(self, timeout_s: float | None) -> float | None:
        """Somebody is about to wait for ``fileno``, perhaps several times before the next ``poll``. Until that, the
        descriptor tells of everything, whatever other threads do meanwhile.

        Returns:
            After how long ``poll`` is to be called in any case, at most ``timeout_s``; None: there is no limit.
        """
        return timeout_s

    def catch_up(self) -> None:  # noqa: B027 - see the default
        """Go on with what this thread was handing to the system when a finaliser or a signal handler interrupted it.

        That calls this before it waits: what it waits for may depend on it, and another thread cannot know how far the
        interrupted one has come. Where it is ``poll`` that was interrupted, the ``poll`` inside does it. The default is
        for transports that hand over in one step.
        """

    def abort_reason(self, last_words: Sequence[str]) -> str:
        """Why a process that used such a transport was aborted (SIGABRT), if its last lines on stderr tell.

        Asked of the transport of another process, the node manager's. The default is for transports without a library
        that aborts.

        Returns:
            A clause; empty if the transport has no part in it.
        """
        return ""

    def cut_off(self) -> Sequence[Connection]:
        """Look for connections whose descriptors the program has closed, of which the system tells nothing.

        Called about twice a second by the thread that polls. The default is for transports that notice it otherwise.

        Returns:
            Those connections; they are closed now, and ``poll`` does not report them.
        """
        return ()

    @abstractmethod
    def wake(self) -> None:
        """Make a running or the next ``poll`` return soon; safe from any thread and from signal handlers."""

    @abstractmethod
    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        """Call ``on_readable`` from inside ``poll`` whenever ``fd`` is readable (level-triggered)."""

    @abstractmethod
    def unwatch(self, fd: int) -> None:
        """Stop watching ``fd``. Must be called before the descriptor is closed."""

    @abstractmethod
    def close(self) -> None:
        """Close every connection (flushing for a bounded time), the listener and its address. Idempotent."""

    @abstractmethod
    def abandon(self) -> None:
        """Release inherited descriptors in a forked child without disturbing the parent or any peer."""
