"""What a session can choose about the zmq transport."""

from __future__ import annotations

import ipaddress
from typing import Literal

import msgspec

_PORT_DIGITS = 5


class ZmqOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the zmq transport."""

    scheme: Literal["ipc", "tcp"] = "ipc"
    """``ipc``: sockets in the session directory, for one machine; ``tcp``: a port chosen by the system."""
    host: str = "127.0.0.1"
    """With ``tcp``: the IP address of the interface to listen on; never all of them."""
    ports: str = ""
    """With ``tcp``: the ports to listen on, such as ``41000-41099``; empty: the system chooses."""
    key_file: str = ""
    """With ``tcp``: file with the keys of the cluster. May be empty on the loopback interface only: the session then
    makes keys of its own."""

    def __post_init__(self) -> None:
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            raise ValueError(f"host={self.host!r} is not an IP address") from None
        if address.is_unspecified:
            raise ValueError(f"host={self.host!r} would listen on every interface: give the address of one")
        if self.ports and not self.port_range:
            raise ValueError(f"ports={self.ports!r} is not a range of ports such as '41000-41099'")
        if self.scheme == "tcp" and not address.is_loopback and not self.key_file:
            raise ValueError(f"host={self.host!r} can be reached from other machines: give a key_file")

    @property
    def port_range(self) -> range:
        """The ports to listen on; empty where the system chooses."""
        ends = self.ports.split("-")  # no pattern: each worker that listens would compile it
        if len(ends) != 2 or not all(end.isascii() and end.isdigit() and len(end) <= _PORT_DIGITS for end in ends):
            return range(0)
        low, high = map(int, ends)
        return range(low, high + 1) if 0 < low <= high < 1 << 16 else range(0)

    def check_machine(self) -> None:
        """Whether the keys are there; called once, before anything is started.

        Raises:
            PluginError: they are not, or others than the owner can read them.
        """
        if self.scheme == "tcp" and self.key_file:
            from ray_transport_zmq.curve import read_keys  # here, as it imports ZeroMQ

            read_keys(self.key_file)
