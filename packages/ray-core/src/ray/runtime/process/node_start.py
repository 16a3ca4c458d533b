"""What the processes of a node are told at their start, and by whom: as JSON, which no process executes."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Self

import msgspec

from ray.ids import node_title

#: Where others reach what only its own machine reaches.
LOOPBACK = "127.0.0.1"


class Told(msgspec.Struct, frozen=True):
    """Base: as bytes without a line break. Not msgspec's JSON: names of files that are not in UTF-8 come through."""

    def to_json(self) -> bytes:
        """As one line."""
        return json.dumps(msgspec.to_builtins(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Undo ``to_json``.

        Raises:
            ValueError: it is none (msgspec's and json's errors are).
        """
        found: Any = json.loads(data)
        return msgspec.convert(found, cls)


class Package(msgspec.Struct, frozen=True):
    """A directory that a program sends to its workers, as a ZIP file."""

    digest: str
    """SHA-256 of the file, in hexadecimal."""
    size: int
    """Of the file, in bytes."""


class JobConfig(Told, frozen=True):
    """What one run of a program, a job, wants for its workers. The driver says it."""

    sys_path: list[str]
    namespace: str
    log_to_driver: bool
    cwd: str = ""
    """The directory in which workers begin; empty: that of the node manager."""
    umask: int = -1
    """For the files that tasks make; -1: that which the node manager was started with."""
    env_vars: dict[str, str] = {}
    """What workers have in their environment, beside that of the node manager."""
    package: Package | None = None
    """The directory in which workers begin, and look for modules first; None: the program sends none."""
    home: int = 0
    """Number of the node that the driver is connected to. Filled in by its node manager."""
    lack: str = ""
    """Why it is not there on this node, so that no task can run: a clause. Filled in by the node manager."""
    is_guest: bool = False
    """Its driver runs on a machine without a node, and reads no store: all values travel in messages."""


class ClusterConfig(Told, frozen=True):
    """What a node manager is told that is one of several."""

    name: str
    """Of the cluster."""
    is_head: bool
    """It is the director, and no node was there before it."""
    control: str = ""
    """Address of the control store, without secrets; empty: this node manager starts it."""
    key_file: str = ""
    """Where the keys of the cluster are."""
    host: str = LOOPBACK
    """Where other nodes reach this one."""
    ports: tuple[int, int] = (0, 0)
    """The first and the last port to listen on; zeros: the system chooses."""
    node_name: str = ""
    labels: dict[str, str] = {}
    address: str = ""
    """What users give: ``host:port`` of the control server."""
    keeper: int = 0
    """Of a head: the process that keeps the control server, and has started this one."""
    ended: int = 0
    """Of a head that takes the place of one that has ended: the number of that one."""
    data_encryption: str = "auto"
    """``auto``, ``aes-gcm`` or ``none``: that of the whole cluster; the head says it."""
    control_timeout_s: float = 60.0
    """What needs the control store waits so long for one that does not answer."""
    same_host: bool = True
    """Other nodes of this machine read its store in place of a data connection."""


class NodeConfig(Told, frozen=True):
    """What a node manager is told by the program that starts it."""

    session: str
    session_dir: str
    plan: str
    resources: dict[str, int]
    gpu_ids: list[str]
    store_bytes: int
    sys_path: list[str]
    """Where plugins may lie, and what is imported ahead for all workers."""
    preload: list[str]
    prestart: int = 0
    """Workers that are started at once for ``job``."""
    owner_pid: int = 0
    """The driver with which the node ends; 0: it ends when it is stopped."""
    job: JobConfig | None = None
    """Of that driver."""
    store_address: str = ""
    """Filled in by the node manager, as is ``events``."""
    events: bool = False
    """Whether a plugin wants to know of the ends of tasks."""
    cluster: ClusterConfig | None = None
    """The cluster that it is a part of; None: it is alone."""

    @property
    def instance(self) -> str:
        """What this node alone is known by, among all on this machine: the name of its directory, in hexadecimal."""
        return os.path.basename(self.session_dir)

    @property
    def host(self) -> str:
        """Where other nodes reach this one."""
        return self.cluster.host if self.cluster is not None else LOOPBACK

    def shown_node(self, id: bytes) -> str:
        """How messages call the node; ``id`` begins with its number."""
        return node_title(id) if self.cluster is None else node_title(id, self.cluster.node_name, self.cluster.host)


class NodeFacts(Told, frozen=True):
    """What a node manager answers to its ``NodeConfig``: where it is, or why it is not."""

    address: str = ""
    store: str = ""
    events: bool = False
    job: str = ""
    """Name of the job of the program that has started it."""
    control: str = ""
    """Where the control store is; it may hold a secret."""
    error: str = ""
    node: int = 0
    """The node's number."""
    host: str = LOOPBACK
    """Where other nodes reach it."""
    cluster: str = ""
    """``host:port`` of the cluster's control server; empty: it is alone."""
    home: str = ""
    """What the node is called, where it is not on the driver's machine."""


def job_file(session_dir: str, job: str) -> str:
    """Path of the file in which the node manager leaves the ``JobConfig`` of a job for its workers."""
    return os.path.join(session_dir, f"job-{job}.json")


def python_version() -> str:
    """What programs and workers have to have in common: code that one has pickled is read by the other."""
    return "{}.{}".format(*sys.version_info[:2])
