"""A process between a host in a network namespace and its cable, which delays, loses and holds up what passes.

Kernels without ``netem`` have nothing for it. Frames come from the host's end of the cable through a packet socket, and
go on through a TAP device that takes its place in the bridge; both give them with the kernel's notes on checksums.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import math
import os
import random
import re
import selectors
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from typing import Self

from ray.clock import monotonic

#: What waits for a slow cable waits no longer, and is lost.
_BACKLOG_S = 0.2
_SEED = 7
_FRAME_BYTES = 80_000
_TAP = "slow"
#: Of <linux/if_tun.h>, <linux/if_packet.h> and <linux/if_ether.h>.
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 263, 15, 23


_BITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}


def bytes_per_s(rate: str) -> float:
    """Of a rate such as ``10mbit``.

    Raises:
        TypeError: it is no text.
        ValueError: it is none.
    """
    example = "give one such as '10mbit' or '500kbit'"
    if not isinstance(rate, str):
        raise TypeError(f"rate={rate!r}: {example}")
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(bit|kbit|mbit|gbit)", rate)
    if found is None or not 0 < float(found[1]) < math.inf:
        raise ValueError(f"rate={rate!r}: {example}")
    return float(found[1]) * _BITS[found[2]] / 8


def share_of_frames(share: float) -> float:
    """Checked.

    Raises:
        TypeError: it is no number.
        ValueError: it is none from 0 to 1.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)):
        raise TypeError(f"share={share!r}: it is a number from 0 to 1, such as 0.05 for 5 %")
    if not 0 <= share <= 1:
        raise ValueError(f"share={share!r}: it is from 0 to 1, such as 0.05 for 5 %")
    return share


def delay_s(seconds: float) -> float:
    """Checked.

    Raises:
        TypeError: it is no number.
        ValueError: it is no time that a frame can take.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"seconds={seconds!r}: it is a number, such as 0.1")
    if not 0 <= seconds <= sys.float_info.max:
        raise ValueError(f"seconds={seconds!r}: it is a time such as 0.1, neither negative nor infinite")
    return seconds


@dataclass(frozen=True)
class Quality:
    """Of a cable."""

    delay_s: float = 0.0
    loss: float = 0.0
    bytes_per_s: float = 0.0
    """0: as many as there are."""

    def but(self, delay_s: float | None, loss: float | None, bytes_per_s: float | None) -> Quality:
        """The same, with what is given."""
        return Quality(
            self.delay_s if delay_s is None else delay_s,
            self.loss if loss is None else loss,
            self.bytes_per_s if bytes_per_s is None else bytes_per_s,
        )

    def to_line(self) -> str:
        """As the process reads it."""
        return f"{self.delay_s} {self.loss} {self.bytes_per_s}\n"

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Undo ``to_line``."""
        return cls(*map(float, line.split()))


class SlowCable:
    """Owns the process; the cable is as it was after ``close``."""

    def __init__(self, host: str, cable: str, port: str, quality: Quality) -> None:
        """Put it between the namespace ``host`` and ``port``, its end of the cable in the namespace ``cable``."""
        self._host = host
        self._cable = cable
        self._port = port
        # Frames as a real cable has them: the kernel would otherwise give up to 64 KiB as one, to be lost as one.
        self._ip(host, "eth0", "gso_max_size", "1514", "gso_max_segs", "1")
        self._ip(cable, port, "nomaster", "promisc", "on")
        command = ["ip", "netns", "exec", cable, sys.executable, "-m", __name__, port]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.set(quality)
        self._ip(cable, _TAP + port, "master", "cable", "up")

    def set(self, quality: Quality) -> None:
        """Have it so from now on; returns when the process knows."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(quality.to_line())
            self._process.stdin.flush()
        if not self._process.stdout.readline():
            raise OSError("the process between a host and its cable has ended")

    def close(self) -> None:
        """End the process, and connect the host to its cable."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._ip(self._cable, self._port, "master", "cable", "promisc", "off")
        self._ip(self._host, "eth0", "gso_max_size", "65536", "gso_max_segs", "65535")

    def _ip(self, namespace: str, device: str, *settings: str) -> None:
        subprocess.run(["ip", "-n", namespace, "link", "set", device, *settings], check=True, capture_output=True)


class _Relay:
    """Passes frames on, in both directions."""

    def __init__(self, port: str) -> None:
        self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        self._packets.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        self._packets.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._packets.bind((port, _ETH_P_ALL))
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH", (_TAP + port).encode(), flags))
        #: Descriptor -> the one that its frames go to.
        self._ways = {self._packets.fileno(): tap, tap: self._packets.fileno()}
        #: Descriptor -> when all that it was given has passed.
        self._passed = dict.fromkeys(self._ways, 0.0)
        #: (when, number, descriptor, frame).
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self._random = random.Random(_SEED)
        self._quality = Quality()

    def run(self) -> None:
        """Until the program that has started it has ended."""
        with selectors.DefaultSelector() as selector:
            for descriptor in (0, *self._ways):
                selector.register(descriptor, selectors.EVENT_READ)
            while True:
                left = max(0.0, self._waiting[0][0] - monotonic()) if self._waiting else None
                for key, _ in selector.select(left):
                    if key.fd:
                        self._take(key.fd)
                    elif not self._is_told():
                        return
                self._pass_on()

    def _is_told(self) -> bool:
        line = sys.stdin.readline()
        if line:
            self._quality = Quality.from_line(line)
            print("done", flush=True)
        return bool(line)

    def _take(self, source: int) -> None:
        target, quality = self._ways[source], self._quality
        while True:
            try:
                frame = os.read(source, _FRAME_BYTES)
            except OSError:  # there is none, or the other end is down
                return
            now = monotonic()
            if self._random.random() < quality.loss:
                continue
            passed = now
            if quality.bytes_per_s:
                passed = max(now, self._passed[target])
                if passed > now + _BACKLOG_S:
                    continue
                passed += len(frame) / quality.bytes_per_s
                self._passed[target] = passed
            self._count += 1
            heapq.heappush(self._waiting, (passed + quality.delay_s, self._count, target, frame))

    def _pass_on(self) -> None:
        now = monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, _, target, frame = heapq.heappop(self._waiting)
            with contextlib.suppress(OSError):  # no room, or the other end is down: it is lost
                os.write(target, frame)


if __name__ == "__main__":
    _Relay(sys.argv[1]).run()
