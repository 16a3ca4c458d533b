"""How a process comes to its node: it listens, says hello to the node manager, and is welcome."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from ray.abc.transport import Connection, Transport
from ray.clock import monotonic
from ray.exceptions import PluginError
from ray.messages import codec, node, wire
from ray.plugins.compose import Composition
from ray.protocol import handshake
from ray.runtime.process.interrupts import guard_plugin, may_interrupt
from ray.runtime.process.polling import Event


class Admission(NamedTuple):
    """A process is welcome."""

    address: str
    """Where it listens."""
    connection: Connection
    """To its node manager."""
    welcome: wire.Welcome
    events: list[Event]
    """What has come beside that, and is to be taken first."""


def guard_parts(composition: Composition, transport: Transport) -> None:
    """Nothing may be torn in the plugins that a program's own threads call; where the transport waits, anything may."""
    may_interrupt(transport.wait_code)
    for seam in ("store", "transport"):  # others' code, such as that of selectors, is called by the program
        for part in composition.plan.parts[seam].with_inner:
            guard_plugin(part.module, bool(part.distribution))


def knock(
    transport: Transport,
    hint: str,
    node_address: str,
    hello: Callable[[str], wire.Hello],
    *,
    is_guest: bool = False,
    is_lent: bool = False,
) -> tuple[str, Connection]:
    """Listen, and say hello to the node manager.

    Args:
        transport: new; nobody else knows this process yet.
        hint: a name for what listens.
        node_address: of the node manager.
        hello: makes what this process says, of its address.
        is_guest: the node manager is on another machine, and this process listens for that one's processes.
        is_lent: processes of other nodes are going to dial this one, so it says at once where. Where it cannot listen
            for them, it says so when it is asked to.

    Returns:
        The address, and the connection to the node manager.

    Raises:
        ConnectionError: nobody is there.
    """
    address = transport.listen(hint)
    if is_guest:
        address = transport.listen_far(address)
    elif is_lent:
        with contextlib.suppress(OSError, PluginError):
            address = transport.listen_far(address)
    connection = transport.connect(node_address)
    connection.send((codec.encode(hello(address)),))
    return address, connection


def admit(
    transport: Transport,
    hint: str,
    node_address: str,
    hello: Callable[[str], wire.Hello],
    here: handshake.Membership,
    timeout_s: float,
    *,
    is_guest: bool = False,
) -> Admission:
    """The same of a process that has no id yet: wait for the one that the node manager gives it.

    Raises:
        ConnectionError: nobody is there, or it hangs up: it has ended, or does not want this process.
        TimeoutError: it does not answer in time.
        RemoteProtocolError: what it answers contradicts ``here``.
    """
    address, connection = knock(transport, hint, node_address, hello, is_guest=is_guest)
    end, events = monotonic() + timeout_s, list[Event]()
    while (left_s := end - monotonic()) > 0:
        events += transport.poll(left_s)
        for number, (sender, frames) in enumerate(events):
            if sender is not connection:
                continue
            if frames is None:
                raise ConnectionError(f"the node manager at {node_address} has closed the connection")
            answer = codec.decode(frames)
            if isinstance(answer, node.Ending):
                raise ConnectionError(f"the node manager at {node_address} cannot take this program: {answer.reason}")
            welcome = handshake.check_welcome(answer, here)
            del events[number]
            return Admission(address, connection, welcome, events)
    raise TimeoutError(f"the node manager at {node_address} does not answer within {timeout_s:g} s")
