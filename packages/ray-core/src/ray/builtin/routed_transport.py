"""One transport within a node and another one between nodes: dialled is by the number of the node in an address.

The connections are those of the two, so what is sent takes no way through here. The near one does the waiting: its poll
watches the descriptor of the far one, which is opened, and listens, only once it is needed.

Finalisers and signal handlers interrupt this as they do any transport, see ``ray.abc.transport``. What a poll has taken
is kept where a call that interrupts it finds it, from the step in which the other transport returns it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

from ray.abc.transport import Connection, Find, Frame, Transport
from ray.builtin.routed_address import RoutedAddress
from ray.builtin.unreachable import UnreachableConnection
from ray.clock import monotonic
from ray.exceptions import PluginContractError, PluginError, RayConnectionError


class RoutedTransport(Transport):
    """Owns both, and closes them."""

    name = "routed"

    def __init__(self, node: int, near: Transport, open_far: Callable[[], Transport]) -> None:
        """Make one.

        Args:
            node: the number of this process's node. 0 if it belongs to none, and so only looks at the one that it finds
                on this machine: it takes every address for one of that node, and does not listen.
            near: for processes of that node.
            open_far: opens the one for processes of other nodes, which has to be watchable; called when it is needed.
        """
        self.wait_code = near.wait_code
        self._node = node
        self._near = near
        self._open_far = open_far
        self._far: Transport | None = None
        #: The far one has something to tell.
        self._far_is_ready = False
        #: It was prepared for being watched, and when it is to be polled in any case.
        self._is_prepared = False
        self._far_due: float | None = None
        #: The far contact of this process, once it listens there.
        self._far_contact = ""
        #: Looks for the far contacts of others.
        self._find: Find | None = None
        self._hint = ""
        #: A poll waits, or did so when a signal handler raised in it.
        self._waiting = False
        #: What the next ``poll`` to end returns.
        self._taken: list[tuple[Connection, Sequence[Frame] | None]] = []
        self._closed = False

    # --- ends -----------------------------------------------------------------------------------------------------

    def listen(self, hint: str) -> str:
        if not self._node:
            raise ValueError("a process that belongs to no node does not listen")
        self._hint = hint
        return RoutedAddress(self._node, self._near.listen(hint)).text()

    def listen_far(self, address: str) -> str:
        own = RoutedAddress.parse(address)
        if not self._far_contact:
            contact = self._opened_far().listen(self._hint)
            # Two that come at once open two listeners; the address of one of them is given away.
            if not self._far_contact:
                self._far_contact = contact
        return RoutedAddress(own.node, own.near, self._far_contact).text()

    def contacts(self, address: str) -> Sequence[str]:
        target = RoutedAddress.parse(address)
        return tuple(contact for contact in (target.near, target.far) if contact)

    def dial(self, address: str, timeout_s: float = 5.0) -> Connection:
        target = RoutedAddress.parse(address)
        if target.node == self._node or not self._node:
            return self._near.dial(target.near, timeout_s)
        if not target.far and self._find is None:
            return self._unreachable(
                f"cannot connect to {address}: that process can be reached from its own node, {target.node}, only, and "
                f"this one is of node {self._node}"
            )
        try:
            far = self._opened_far()
        except (PluginError, OSError) as error:
            raise ConnectionError(f"cannot connect to {address}: {error}") from error
        return far.dial(target.far, timeout_s) if target.far else self._sought(far, target.node, address, timeout_s)

    def node_in(self, address: str) -> int:
        try:
            node = RoutedAddress.parse(address).node
        except RayConnectionError:
            return -1
        return 0 if node == self._node else node

    def find_with(self, find: Find) -> None:
        self._find = find

    def _sought(self, far: Transport, node: int, address: str, timeout_s: float) -> Connection:
        """Dial a process whose far contact only its node manager can tell."""
        connection, found = far.dial_later(address, timeout_s)

        def answered(told: str, reason: str) -> None:
            try:
                contact = RoutedAddress.parse(told).far if told else ""
            except RayConnectionError as error:
                contact, reason = "", str(error)
            found(contact, reason or f"the process at {told} cannot be reached from other nodes")

        assert self._find is not None
        self._find(node, address, answered)
        return connection

    def _unreachable(self, reason: str) -> Connection:
        connection = UnreachableConnection(ConnectionError(reason))
        self._taken.append((connection, None))
        self._near.wake()
        return connection

    def _opened_far(self) -> Transport:
        """The far transport, opened if need be.

        Raises:
            ConnectionError: this one is closed.
            PluginError: it cannot be opened, or not be watched.
            OSError: this process lacks what it takes.
        """
        if self._far is not None:
            return self._far
        self._check_open()
        collects = gc.isenabled()
        gc.disable()  # it is imported here: a finaliser that needs it as well would find half of it
        try:
            opened = self._open_far()
        finally:
            if collects:
                gc.enable()
        try:
            self._check_open()
            fd = opened.fileno()
            if fd < 0:
                raise PluginContractError(
                    f"transport={opened.name!r} has no descriptor to watch, which far of transport='routed' takes",
                    seam="transport",
                    plugin=opened.name,
                )
        except BaseException:
            opened.close()
            raise
        self._near.watch(fd, self._note_far)  # before anybody relies on it
        if self._far is None:
            self._far = opened
        far = self._far
        if far is not opened:  # somebody was quicker
            self._near.unwatch(fd)
            opened.close()
        self._near.wake()  # the thread that polls is to mind it from now on
        return far

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectionError("the transport is closed")

    def _note_far(self) -> None:
        self._far_is_ready = True

    # --- polling, by one thread at a time -------------------------------------------------------------------------

    def poll(self, timeout_s: float | None) -> list[tuple[Connection, Sequence[Frame] | None]]:
        far = self._far
        if far is None and not self._taken:
            return self._near.poll(timeout_s)
        is_inside, self._waiting = self._waiting, True
        if far is not None:
            if is_inside or not self._is_prepared:
                self._is_prepared = True  # first: a call that interrupts this one may have to take it back
                self._prepare(far)
            due = self._far_due
            if due is not None:
                left_s = max(0.0, due - monotonic())
                timeout_s = left_s if timeout_s is None else min(timeout_s, left_s)
        events = self._near.poll(0.0 if self._taken else timeout_s)
        self._taken.extend(events)  # nothing comes between the two
        if far is not None and (self._far_is_ready or self._is_due()):
            self._far_is_ready = False
            events = far.poll(0.0)
            self._taken.extend(events)
            self._is_prepared = False
        self._waiting = False
        if is_inside:  # the call that this one interrupts is not to wait for what the far one has told here
            self._near.wake()
        rest: list[tuple[Connection, Sequence[Frame] | None]] = []
        # In one go: a call that interrupts this one finds them either all or not at all.
        events = self._taken
        self._taken = rest
        return events

    def _prepare(self, far: Transport) -> None:
        left_s = far.prepare(None)
        self._far_due = None if left_s is None else monotonic() + left_s

    def _is_due(self) -> bool:
        due = self._far_due  # a call that interrupts this may change it
        return due is not None and monotonic() >= due

    def wake(self) -> None:
        self._near.wake()

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        self._near.watch(fd, on_readable)

    def unwatch(self, fd: int) -> None:
        self._near.unwatch(fd)

    # --- what both do ---------------------------------------------------------------------------------------------

    @property
    def _opened(self) -> tuple[Transport, ...]:
        far = self._far
        return (self._near,) if far is None else (self._near, far)

    def settle(self, timeout_s: float) -> bool:
        far = self._far
        if far is None:
            return self._near.settle(timeout_s)
        end = monotonic() + timeout_s
        near_has = self._near.settle(timeout_s)
        return far.settle(max(0.0, end - monotonic())) and near_has

    def catch_up(self) -> None:
        for each in self._opened:
            each.catch_up()

    def abort_reason(self, last_words: Sequence[str]) -> str:
        return next(filter(None, (each.abort_reason(last_words) for each in self._opened)), "")

    def cut_off(self) -> Sequence[Connection]:
        return [connection for each in self._opened for connection in each.cut_off()]

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        far = self._far
        if far is not None:
            self._near.unwatch(far.fileno())
            far.close()
        self._near.close()

    def abandon(self) -> None:
        self._closed = True
        for each in self._opened:
            each.abandon()
