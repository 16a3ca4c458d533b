"""Lines of ``cluster.py`` about large values that one node reads from another one, beside a plain socket."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import processes
from adapter import ray, remote
from cluster_nodes import Nodes
from harness import Line

GIB, MIB, KIB = 1 << 30, 1 << 20, 1 << 10
#: Values of a GiB that are read one after the other: the first one touches the store's memory for the first time.
TIMES = 4
SMALL_TIMES = 60
MANY = 1000
FAR: dict[str, Any] = {"num_cpus": 0, "resources": {"far": 1}}
STORE = ("--num-cpus", "1", "--object-store-memory", "3GiB")
#: What nobody holds any more is freed on both nodes by then.
FREED_S = 1.0
#: {what: arguments of the head, and whether nodes of one machine read each other's stores}
KINDS = {"clear": ((), "0"), "sealed": (("--data-encryption", "aes-gcm"), "0"), "near": ((), "1")}


@remote
def made(nbytes: int) -> bytes:
    block = os.urandom(min(nbytes, MIB))
    return block * (nbytes // len(block))


@remote
def made_array(nbytes: int) -> Any:
    return numpy.zeros(nbytes, numpy.uint8)


@remote
def made_many(count: int, nbytes: int) -> list[Any]:
    return [ray.put(os.urandom(nbytes)) for _ in range(count)]


def pull_lines(nodes: Nodes) -> list[Line]:
    """In the clear, encrypted, and from store to store; the plain socket takes its turn before each of them."""

    @functools.cache
    def samples(kind: str) -> dict[str, list[float]]:
        with _two_nodes(nodes, kind):
            return _measured(nodes, small=kind == "clear")

    def line(name: str, unit: str, kind: str, what: str) -> Line:
        return Line(name, unit, lambda budget: samples(kind)[what])

    return [
        Line("socket", "GB/s", lambda budget: [_socket_rate() for _ in range(TIMES)]),
        *(line(f"pull_{kind}", "GB/s", kind, "rate") for kind in KINDS),
        *(line(f"pull_{kind}_cpu", "s/GiB", kind, "cpu") for kind in KINDS),
        line("pull_100k", "ms", "clear", "100k"),
        line("pull_1m", "ms", "clear", "1m"),
        line("pull_many", "GB/s", "clear", "many"),
        line("get_pulled", "/s", "clear", "again"),
    ]


def _measured(nodes: Nodes, *, small: bool) -> dict[str, list[float]]:
    rates, costs = [], []
    movers = [pid for pid, name in nodes.pids().items() if name.startswith("ray::objects")]
    for _ in range(TIMES):
        ref = made.options(**FAR).remote(GIB)
        ray.wait([ref])
        before = processes.cpu_seconds(movers)
        rates.append(GIB / _brought([ref]) / 1e9)
        costs.append(processes.cpu_seconds(movers) - before)
        del ref
        time.sleep(FREED_S)
    found = {"rate": rates[1:], "cpu": costs[1:]}
    if not small:
        return found
    for name, nbytes in (("100k", 100 * KIB), ("1m", MIB)):
        found[name] = [1000 * _read(ref) for ref in ray.get(made_many.options(**FAR).remote(SMALL_TIMES, nbytes))]
    found["many"] = []
    for _ in range(TIMES):
        refs = ray.get(made_many.options(**FAR).remote(MANY, MIB))
        found["many"].append(MANY * MIB / _brought(refs) / 1e9)
        del refs
        time.sleep(FREED_S)
    del found["many"][0]
    value = made_array.options(**FAR).remote(MIB)
    ray.get(value)
    start, count = time.perf_counter(), 0
    while time.perf_counter() < start + 1:
        ray.get(value)
        count += 1
    found["again"] = [count / (time.perf_counter() - start)]
    return found


def _read(ref: Any) -> float:
    """Seconds until a value of another node can be used here."""
    start = time.perf_counter()
    ray.get(ref)
    return time.perf_counter() - start


def _brought(refs: list[Any]) -> float:
    start = time.perf_counter()
    ray.wait(refs, num_returns=len(refs), fetch_local=True)
    return time.perf_counter() - start


@contextlib.contextmanager
def _two_nodes(nodes: Nodes, kind: str) -> Iterator[None]:
    arguments, same_host = KINDS[kind]
    before, nodes.environ = nodes.environ, nodes.environ | {"RAY_STORE": "plasma", "RAY_SAME_HOST": same_host}
    try:
        nodes.head(*STORE, *arguments)
        nodes.join(*STORE, "--resources", "far=1")
        nodes.await_all(2)
        ray.init(redis_address=nodes.address(), log_to_driver=False)
        try:
            yield
        finally:
            ray.shutdown()
    finally:
        nodes.stop()
        nodes.environ = before


def _socket_rate() -> float:
    """GB/s of one GiB from memory to memory, between two processes, over TCP and loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    pid = os.fork()
    if not pid:
        _in_child(lambda: _send(listener.getsockname()))
    with listener, listener.accept()[0] as connection:
        into = memoryview(bytearray(GIB))
        connection.recv_into(into, 1, socket.MSG_WAITALL)  # the other end is ready
        start, got = time.perf_counter(), 1
        while got < GIB:
            got += connection.recv_into(into[got:])
        took = time.perf_counter() - start
    os.waitpid(pid, 0)
    return GIB / took / 1e9


def _send(place: tuple[str, int]) -> None:
    data = memoryview(os.urandom(MIB) * (GIB // MIB))
    with socket.create_connection(place) as connection:
        connection.sendall(data[:1])
        connection.sendall(data[1:])


def _in_child(run: Callable[[], None]) -> None:
    status = 1
    try:
        run()
        status = 0
    finally:
        os._exit(status)
