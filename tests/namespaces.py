"""Hosts in network namespaces on one cable: as machines of their own, as far as the network goes. For root on Linux.

The cable is a bridge in one more namespace, so that nothing of it is seen on the machine itself. Names hold the pid of
the program that has made them; what a program has left that was killed, the next one removes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.commands import Machine

_PREFIX = "rayt"
_NET = "10.77.0"


def lack() -> str:
    """Why there can be none here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces are for root"
    missing = [program for program in ("ip", "nft") if shutil.which(program) is None]
    if missing:
        return f"needs {' and '.join(missing)}: apt-get install -y --no-install-recommends iproute2 nftables"
    return "" if _ip("netns", "list", check=False).returncode == 0 else "this system has no network namespaces"


class Host(Machine):
    """One machine: an address, a loopback of its own, key files and sessions of its own."""

    def __init__(self, name: str, address: str, home: Path, runtime: Path) -> None:
        super().__init__(home, runtime, prefix=("ip", "netns", "exec", name))
        self.name = name
        self.address_of_host = address

    def take_key(self, other: Machine, name: str = "default") -> None:
        """Copy the key file of a cluster from another machine, as ``scp`` would."""
        path = self.key_path(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy(other.key_path(name), path)
        os.chmod(path, 0o600)

    def cut(self, is_cut: bool = True) -> None:
        """Pull the cable, or put it back."""
        _ip("-n", self.name, "link", "set", "eth0", "down" if is_cut else "up")

    @contextlib.contextmanager
    def dropping(self, rule: str) -> Iterator[None]:
        """Drop what fits a rule of nft, such as ``tcp dport 6379``, of what this host sends."""
        table = ("add table inet t; add chain inet t o { type filter hook output priority 0; }; "
                 f"add rule inet t o {rule} drop")  # fmt: skip
        self.run_here("nft", table)
        try:
            yield
        finally:
            self.run_here("nft", "delete table inet t")

    def run_here(self, *command: str) -> str:
        """Run a program on this host."""
        return subprocess.run([*self.prefix, *command], check=True, capture_output=True, text=True).stdout

    def listeners(self) -> set[tuple[str, int]]:
        """Addresses and ports on which something listens."""
        found = set()
        for family, name in ((4, "tcp"), (6, "tcp6")):
            for line in self.run_here("cat", f"/proc/net/{name}").splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == "0A":
                    host, port = local.split(":")
                    octets = reversed(bytes.fromhex(host)) if family == 4 else bytes.fromhex(host)
                    found.add((".".join(map(str, octets)), int(port, 16)))
        return found

    def processes(self) -> list[int]:
        """Pids of what runs on this host."""
        return [int(pid) for pid in _ip("netns", "pids", self.name).stdout.split()]


class Network:
    """Some hosts, each of which reaches every other one. Nothing is left of it after ``close``."""

    def __init__(self, count: int, folder: Path, runtimes: list[Path]) -> None:
        """Make them.

        Args:
            count: of hosts.
            folder: for their key files.
            runtimes: a short, empty directory for the sockets of each.
        """
        _remove_left()
        self._cable = f"{_PREFIX}{os.getpid()}c"
        self.hosts: list[Host] = []
        _ip("netns", "add", self._cable)
        _ip("-n", self._cable, "link", "add", "cable", "type", "bridge")
        _ip("-n", self._cable, "link", "set", "cable", "up")
        for number in range(1, count + 1):
            name, address = f"{_PREFIX}{os.getpid()}h{number}", f"{_NET}.{number}"
            _ip("netns", "add", name)
            self.hosts.append(Host(name, address, folder / str(number), runtimes[number - 1]))
            _ip("-n", self._cable, "link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", self._cable, "link", "set", f"p{number}", "master", "cable", "up")
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _ip("-n", name, "link", "set", device, "up")

    def close(self) -> None:
        """Remove them, and kill what runs there."""
        for name in (*(host.name for host in self.hosts), self._cable):
            _remove(name)


def _remove_left() -> None:
    for entry in json.loads(_ip("-j", "netns", "list").stdout or "[]"):
        found = re.fullmatch(rf"{_PREFIX}([0-9]+)[ch][0-9]*", entry["name"])
        if found and not os.path.exists(f"/proc/{found[1]}"):
            _remove(entry["name"])


def _remove(name: str) -> None:
    for pid in _ip("netns", "pids", name, check=False).stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "delete", name, check=False)


def _ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)
