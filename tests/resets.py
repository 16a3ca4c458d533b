"""TCP connections of chosen processes, reset as something in between would. For root on Linux."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable

import psutil


def lack() -> str:
    """Why there are none here; empty if there are."""
    if os.geteuid() != 0:
        return "resets are for root"
    if shutil.which("ss") is None:
        return "needs ss: apt-get install -y --no-install-recommends iproute2"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as one:
        _kill(one.getsockname()[1])
        try:
            one.send(b"x")
        except OSError:
            return ""
    return "this kernel destroys no sockets for others"


def family(pids: Iterable[int]) -> list[psutil.Process]:
    """These processes and what they have started."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
    return found


def ports(processes: Iterable[psutil.Process]) -> set[int]:
    """Where these processes listen, control servers left out."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if "redis" in process.name():
                continue
            found |= {each.laddr.port for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
    return found


def reset(wanted: Iterable[int]) -> int:
    """Reset all connections to these ports, at both ends; how many there were."""
    return sum(map(_kill, wanted))


def _kill(port: int) -> int:
    where = ["(", "sport", "=", f":{port}", "or", "dport", "=", f":{port}", ")"]
    done = subprocess.run(["ss", "-HKtn", "state", "established", *where], capture_output=True, text=True)
    return len(done.stdout.splitlines())
