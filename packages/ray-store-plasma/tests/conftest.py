"""A store for each test, and a look at what it leaves behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from ray.testing import leaks
from ray_store_plasma.client import PlasmaStore
from ray_store_plasma.options import PlasmaOptions
from ray_store_plasma.process import PlasmaStoreServer

CAPACITY = 4 * 1024 * 1024


class Node:
    """One server, and the clients that the test opens."""

    def __init__(self, server: PlasmaStoreServer, spill_dir: Path) -> None:
        self.server = server
        self.spill_dir = spill_dir
        self.clients: list[PlasmaStore] = []

    def connect(self) -> PlasmaStore:
        client = PlasmaStore(self.server.address)
        self.clients.append(client)
        return client

    @property
    def path(self) -> str:
        return self.server.address.removeprefix("plasma:")

    def spill_file(self) -> str:
        """The server's unnamed file, as a path that can be opened."""
        folder = f"/proc/{self.server.pid}/fd"
        found = [
            os.path.join(folder, name)
            for name in os.listdir(folder)
            if os.readlink(os.path.join(folder, name)).startswith(f"{self.spill_dir}/")
            and os.readlink(os.path.join(folder, name)).endswith("(deleted)")
        ]
        assert len(found) == 1, "the server has one spill file"
        return found[0]


class StartNode(Protocol):
    def __call__(self, capacity_bytes: int = CAPACITY, **options: Any) -> Node: ...


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No process, thread, descriptor or shared memory stays."""
    before = leaks.snapshot()
    yield
    leaks.assert_clean(before)


@pytest.fixture
def start(tmp_path: Path, nothing_left: None) -> Iterator[StartNode]:
    """Start a server with these options; it and its clients end with the test."""
    nodes: list[Node] = []
    spill_dir = tmp_path / "spill"
    spill_dir.mkdir()

    def start_one(capacity_bytes: int = CAPACITY, **options: Any) -> Node:
        settings = PlasmaOptions(**{"spill_dir": str(spill_dir), "full_timeout_s": 0.3, **options})
        session = tmp_path / f"{len(nodes)}"
        session.mkdir()
        nodes.append(Node(PlasmaStoreServer(str(session), capacity_bytes, settings), spill_dir))
        return nodes[-1]

    yield start_one
    for node in nodes:
        for client in node.clients:
            client.close()
        node.server.close()
        assert not os.path.exists(node.path)
    assert list(spill_dir.iterdir()) == [] if spill_dir.exists() else True


@pytest.fixture
def node(start: Callable[..., Node]) -> Node:
    """One of the usual kind."""
    return start()


@pytest.fixture
def store(node: Node) -> PlasmaStore:
    """A client of it."""
    return node.connect()


def an_id(number: int) -> bytes:
    return b"plasma--test----" + number.to_bytes(4, "big")
