"""Hosts in network namespaces on one cable, with the command ``ray`` on each. For root on Linux."""

from __future__ import annotations

from pathlib import Path

from tests.commands import Machine

from ray.testing import namespaces


class Host(Machine):
    """One machine: an address, a loopback of its own, key files and sessions of its own."""

    def __init__(self, net: namespaces.Host, home: Path, runtime: Path) -> None:
        super().__init__(home, runtime, prefix=net.prefix)
        self.net = net
        self.address_of_host = net.address


class Network:
    """Some hosts, each of which reaches every other one. Nothing is left of it after ``close``."""

    def __init__(self, count: int, folder: Path, runtimes: list[Path]) -> None:
        """Make them.

        Args:
            count: of hosts.
            folder: for their key files.
            runtimes: a short, empty directory for the sockets of each.
        """
        self._network = namespaces.Network()
        self.hosts = [Host(self._network.add_host(), folder / str(i), runtimes[i]) for i in range(count)]

    def close(self) -> None:
        """Remove them, and kill what runs there."""
        self._network.close()
