"""What a ``Hello`` must say before anything else of a peer is heard."""

from __future__ import annotations

import msgspec

from ray.exceptions import RemoteProtocolError
from ray.ids import PROCESS_ID_BYTES, node_number
from ray.messages.codec import PROTOCOL_VERSION
from ray.messages.wire import Hello, Welcome

MAX_ADDRESS_CHARS = 1000
KINDS = frozenset({"driver", "worker", "node", "observer"})
#: Of those that are not started by a node manager: it gives them their ids.
GUESTS = frozenset({"driver", "observer"})


class Membership(msgspec.Struct, frozen=True):
    """What a process belongs to. What it does not know yet, or does not belong to, is empty or 0."""

    session: str
    node: int = 0
    """The number of its node."""
    job: str = ""
    digest: str = ""
    """Of the plan."""


def hello(here: Membership, kind: str, process: bytes, address: str, pid: int, to: bytes = b"") -> Hello:
    """This side's first message; ``to``: whom it wants, if it knows."""
    return Hello(PROTOCOL_VERSION, here.session, kind, process, address, pid, here.node, here.job, here.digest, to)


def check(message: object, here: Membership, process: bytes = b"") -> Hello:
    """Accept a peer's first message; ``process`` is this one's id.

    Raises:
        RemoteProtocolError: it is not a Hello, is of another protocol version, contradicts what this process belongs
            to, or is meant for another; the text names both sides.
    """
    if not isinstance(message, Hello):
        raise RemoteProtocolError(f"peer began with {type(message).__name__}, not with Hello")
    if message.protocol != PROTOCOL_VERSION:
        raise RemoteProtocolError(f"peer speaks protocol {message.protocol}, this process speaks {PROTOCOL_VERSION}")
    if message.session != here.session:
        raise RemoteProtocolError(f"peer belongs to session {message.session}, this process to {here.session}")
    if message.kind not in KINDS:
        raise RemoteProtocolError(f"peer is of unknown kind {message.kind!r}")
    _check_name(message)  # jobs meet: one may find another's named actor
    _check_agreement("plan", message.digest, here.digest)
    if message.to and process and message.to != process:
        raise RemoteProtocolError(f"peer wants process {message.to.hex()}, this one is {process.hex()}")
    return message


def check_welcome(message: object, here: Membership) -> Welcome:
    """Accept a node manager's answer to Hello.

    Raises:
        RemoteProtocolError: it is none, or contradicts what this process belongs to.
    """
    if not isinstance(message, Welcome):
        raise RemoteProtocolError(f"the node manager answered Hello with {type(message).__name__}, not with Welcome")
    if len(message.process) != PROCESS_ID_BYTES or node_number(message.process) != message.node:
        raise RemoteProtocolError(f"the node manager of node {message.node} gave the id {message.process.hex()!r}")
    _check_agreement("node", message.node, here.node)
    _check_agreement("job", message.job, here.job)
    _check_agreement("plan", message.digest, here.digest)
    return message


def check_at_node(message: object, here: Membership) -> Hello:
    """The same at a node manager: the process is to get an id from it, or has got it.

    Raises:
        RemoteProtocolError: as ``check``, or it has an id of its own, or is of another node.
    """
    accepted = check(message, here)
    if accepted.kind in GUESTS and accepted.process:
        raise RemoteProtocolError(f"a {accepted.kind} that has an id before it has got one")
    if accepted.kind != "node":
        _check_agreement("node", accepted.node, here.node)
    return accepted


def check_job(message: Hello, job: str) -> None:
    """See that a process is of the job that its node manager knows it to be of.

    Raises:
        RemoteProtocolError: it says another one.
    """
    _check_agreement("job", message.job, job)


def _check_name(message: Hello) -> None:
    """Whether the id and the address can be those of a process."""
    length = len(message.process)
    if length != PROCESS_ID_BYTES and (length or message.kind not in GUESTS):
        raise RemoteProtocolError(f"peer has an id of {length} bytes")
    if len(message.address) > MAX_ADDRESS_CHARS:
        raise RemoteProtocolError(f"peer has an address of {len(message.address)} characters")
    if length and message.node and node_number(message.process) != message.node:
        raise RemoteProtocolError(f"peer belongs to node {message.node}, its id to {node_number(message.process)}")


def _check_agreement(what: str, peer: str | int, here: str | int) -> None:
    if peer and here and peer != here:
        raise RemoteProtocolError(f"peer belongs to {what} {peer}, this process to {here}")
