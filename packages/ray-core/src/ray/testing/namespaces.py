"""Hosts in network namespaces on one cable: as machines of their own, as far as the network goes. For root on Linux.

    with contextlib.closing(Network()) as network:
        first, second = network.add_host(), network.add_host()
        with first.entered():
            ...  # what this thread opens or starts here has the network of the first one
        with second.cut():
            ...

The cable is a bridge in one more namespace, so that nothing of it is seen on the machine itself. Names hold the pid of
the program that has made them; what a program has left that was killed, the next one removes.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator

from ray.testing.slow_cable import Quality, SlowCable

_PREFIX = "rayt"
_NET = "10.77.0"
_CLONE_NEWNET = 0x40000000
_numbers = itertools.count()


def lack() -> str:
    """Why there can be none here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces are for root"
    missing = [program for program in ("ip", "nft") if shutil.which(program) is None]
    if missing:
        return f"needs {' and '.join(missing)}: apt-get install -y --no-install-recommends iproute2 nftables"
    return "" if _ip("netns", "list", check=False).returncode == 0 else "this system has no network namespaces"


class Host:
    """One of them: an address, and a loopback of its own. Not thread-safe."""

    def __init__(self, name: str, address: str, cable: str, port: str) -> None:
        """``port`` is its end of the cable, in the namespace ``cable``."""
        self.name = name
        self.address = address
        #: Goes before a command line that is to run on this host.
        self.prefix = ("ip", "netns", "exec", name)
        self._cable = cable
        self._port = port
        self._quality = Quality()
        self._slow: SlowCable | None = None

    def run(self, *command: str) -> str:
        """Run a program on this host; returns what it prints."""
        return subprocess.run([*self.prefix, *command], check=True, capture_output=True, text=True).stdout

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Give this thread the network of the host, and with it the threads and processes that it starts meanwhile."""
        with open("/proc/thread-self/ns/net") as before:
            _set_network(f"/run/netns/{self.name}")
            try:
                yield
            finally:
                _set_network(f"/proc/self/fd/{before.fileno()}")

    def cut(self, is_cut: bool = True) -> None:
        """Pull the cable, or put it back."""
        _ip("-n", self.name, "link", "set", "eth0", "down" if is_cut else "up")

    @contextlib.contextmanager
    def dropping(self, rule: str, hook: str = "output") -> Iterator[None]:
        """Drop what fits a rule of nft, such as ``tcp dport 6379``, of what this host sends, or with ``input`` gets."""
        table = f"t{next(_numbers)}"
        chain = f"add chain inet {table} c {{ type filter hook {hook} priority 0; }}"
        self.run("nft", f"add table inet {table}; {chain}; add rule inet {table} c {rule} drop")
        try:
            yield
        finally:
            self.run("nft", f"delete table inet {table}")

    @contextlib.contextmanager
    def slowed(
        self, *, delay_s: float | None = None, loss: float | None = None, bytes_per_s: float | None = None
    ) -> Iterator[None]:
        """Make its cable worse in both directions; blocks may be nested, and what one does not give stays.

        Args:
            delay_s: of each frame, in seconds.
            loss: share of the frames that are lost, 0 to 1.
            bytes_per_s: that pass; more wait for 0.2 s, and are lost then.
        """
        before = self._quality
        self._set_quality(before.but(delay_s, loss, bytes_per_s))
        try:
            yield
        finally:
            self._set_quality(before)

    def _set_quality(self, quality: Quality) -> None:
        self._quality = quality
        if quality == Quality():
            if self._slow is not None:
                self._slow.close()
                self._slow = None
        elif self._slow is None:
            self._slow = SlowCable(self.name, self._cable, self._port, quality)
        else:
            self._slow.set(quality)

    def listeners(self) -> set[tuple[str, int]]:
        """Addresses and ports on which something listens."""
        found = set()
        for family, name in ((4, "tcp"), (6, "tcp6")):
            for line in self.run("cat", f"/proc/net/{name}").splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == "0A":
                    host, port = local.split(":")
                    octets = reversed(bytes.fromhex(host)) if family == 4 else bytes.fromhex(host)
                    found.add((".".join(map(str, octets)), int(port, 16)))
        return found

    def processes(self) -> list[int]:
        """Pids of what runs on this host."""
        return [int(pid) for pid in _ip("netns", "pids", self.name).stdout.split()]

    def close(self) -> None:
        """Remove it, and kill what runs there."""
        if self._slow is not None:
            self._slow.close()
            self._slow = None
        _remove(self.name)


class Network:
    """Some hosts, each of which reaches every other one. Nothing is left of it after ``close``. Not thread-safe."""

    def __init__(self) -> None:
        """There is a cable, and no host.

        Raises:
            OSError: there can be none here.
        """
        why = lack()
        if why:
            raise OSError(why)
        _remove_left()
        self._name = f"{_PREFIX}{os.getpid()}n{next(_numbers)}"
        self._cable = f"{self._name}c"
        self.hosts: list[Host] = []
        _ip("netns", "add", self._cable)
        _ip("-n", self._cable, "link", "add", "cable", "type", "bridge")
        _ip("-n", self._cable, "link", "set", "cable", "up")

    @staticmethod
    def address_of(number: int) -> str:
        """Of a host, counted from 0."""
        return f"{_NET}.{number + 1}"

    def add_host(self) -> Host:
        """One more host on the cable."""
        number = len(self.hosts)
        name, address, port = f"{self._name}h{number}", self.address_of(number), f"p{number}"
        _ip("netns", "add", name)
        host = Host(name, address, self._cable, port)
        self.hosts.append(host)
        _ip("-n", self._cable, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("-n", self._cable, "link", "set", port, "master", "cable", "up")
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", name, "link", "set", device, "up")
        return host

    def close(self) -> None:
        """Remove them, and kill what runs there. Idempotent."""
        for host in self.hosts:
            host.close()
        _remove(self._cable)


def _set_network(path: str) -> None:
    # Until Python 3.12 there is no os.setns.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


def _remove_left() -> None:
    for entry in json.loads(_ip("-j", "netns", "list").stdout or "[]"):
        found = re.fullmatch(rf"{_PREFIX}([0-9]+)n[0-9]+[ch][0-9]*", entry["name"])
        if found and not os.path.exists(f"/proc/{found[1]}"):
            _remove(entry["name"])


def _remove(name: str) -> None:
    for pid in _ip("netns", "pids", name, check=False).stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "delete", name, check=False)


def _ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)
