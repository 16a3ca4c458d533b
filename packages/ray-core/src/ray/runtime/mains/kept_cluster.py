"""A cluster as its keeper has it: the control server, the key file and the node of the head."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import socket
import sys
from collections import deque
from typing import Any

import msgspec

from ray.abc.control import ControlServer
from ray.builtin.redis_control.access import write_private
from ray.builtin.redis_control.own import FOLDER, OwnRedis
from ray.builtin.redis_control.plain_link import RefusedError
from ray.clock import monotonic
from ray.exceptions import ControlStoreError, KeyFileError, RaySystemError
from ray.plugins.compose import Composition
from ray.plugins.plan import ResolvedPlan
from ray.runtime.cluster.control_server import answers, claim_name, release_name
from ray.runtime.cluster.control_url import parse_control_url
from ray.runtime.cluster.keeper_start import KeeperAnswer, KeeperConfig
from ray.runtime.cluster.key_file import CurveKeys, KeyFile, fresh_hmac_key, read_key_file
from ray.runtime.cluster.key_folder import locked, remove_key_file, write_key_file
from ray.runtime.cluster.local_clusters import KEEPER_FILE, KeeperFacts, local_clusters
from ray.runtime.cluster.places import Place
from ray.runtime.driver.launch import StartedNode
from ray.runtime.process.session_dirs import new_session_id, note_end, place_session

#: The URL of a server that exists, with its password, for the plugin.
CONTROL_FILE = "control.url"
#: A node manager that dies more often than this within a minute is not started again.
_RESTARTS = 5
_MINUTE_S = 60.0
_PORT_TRIES = 5
_ASK_S = 2.0


class KeptCluster:
    """Used by the keeper's one thread."""

    def __init__(self, config: KeeperConfig, umask: int) -> None:
        """Start nothing yet.

        Args:
            config: of the program that starts the head.
            umask: of that program; workers have it as well.
        """
        self._config = config
        self._umask = umask
        self._server: ControlServer | None = None
        self._key: KeyFile | None = None
        self._has_name = False
        self._node: StartedNode | None = None
        #: When the node manager was started again, in the last minute.
        self._restarts: deque[float] = deque()

    # --- the start ----------------------------------------------------------------------------------------------------

    def start(self) -> KeeperAnswer:
        """Start everything.

        Raises:
            RayError: that cannot be; ``end`` takes away what was started.
        """
        config = self._config
        with locked(config.key_path):
            self._check_free()
            key = self._key = self._open_control()
            claim_name(key)
            self._has_name = True
            write_key_file(config.key_path, key)
        self._publish(key)
        self._start_node(config.node.session_dir)
        assert self._node is not None
        return KeeperAnswer(str(key.place), self._node.session_dir)

    def _check_free(self) -> None:
        """See that no cluster of the same name is there, whose key file would be lost."""
        path = self._config.key_path
        try:
            found = read_key_file(path)
        except FileNotFoundError:
            return
        except KeyFileError as error:
            reason = f"{error.reason}; and it is not overwritten: remove it, if no cluster needs it"
            raise KeyFileError(path, reason) from None
        if found.session in local_clusters() or answers(found, _ASK_S):
            raise RaySystemError(
                f"A cluster {found.name!r} is there already, at {found.place} (key file {path}). Give the new one "
                f"another name with --name, or end that one first with `ray stop --name {found.name}`."
            )

    def _open_control(self) -> KeyFile:
        config = self._config
        cluster = config.node.cluster
        assert cluster is not None
        key = KeyFile(
            name=cluster.name,
            session=config.session,
            host=config.host,
            port=config.port,
            curve=CurveKeys.fresh(),
            hmac_key=fresh_hmac_key(),
            control=(),
            transport=ResolvedPlan.from_json(config.node.plan).transport.name,
        )
        if config.control:
            return self._use(key)
        return self._start_server(key)

    def _use(self, key: KeyFile) -> KeyFile:
        """Take the server that exists."""
        url = parse_control_url(self._config.control)
        path = os.path.join(self._config.folder, CONTROL_FILE)
        write_private(path, self._config.control + "\n")
        self._start_control({"file": path, "url": "", "name": key.name})
        return msgspec.structs.replace(key, control=(url.shown,), user=url.user, password=url.password)

    def _start_server(self, key: KeyFile) -> KeyFile:
        """Start our own; where the port does not matter, another one is tried if somebody else was faster."""
        tries = _PORT_TRIES if self._config.may_choose_port else 1
        port = self._free_port()
        while self._server is None:
            try:
                self._start_control({"host": key.host, "port": port, "name": key.name})
            except ControlStoreError:
                tries -= 1
                if not tries:
                    raise
                shutil.rmtree(os.path.join(self._config.folder, FOLDER), ignore_errors=True)
                port = 0
        far = self._server.remote if isinstance(self._server, OwnRedis) else None
        assert far is not None
        port = far.hosts[0][1]
        return msgspec.structs.replace(
            key,
            port=port,
            control=(f"rediss://{Place(key.host, port)}",),
            user=far.user,
            password=far.password,
            certificate=far.certificate,
        )

    def _start_control(self, options: dict[str, Any]) -> None:
        """By the plugin. In a folder with the name of the session, by which it calls its keys."""
        plan = ResolvedPlan.from_json(self._config.node.plan)
        part = msgspec.structs.replace(plan.control, options=plan.control.options | options)
        plan = msgspec.structs.replace(plan, parts=plan.parts | {"control": part})
        self._server = Composition(plan).start_control(self._config.folder)

    def _free_port(self) -> int:
        """The port that was asked for if it is free; else another one, if that will do.

        So it is said here what is wrong; the server finds out which of two is faster.

        Raises:
            RaySystemError: it is taken.
        """
        config = self._config
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        for port in (config.port, 0):
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((config.host, port))
                except OSError as error:
                    if error.errno == errno.EADDRINUSE and port and config.may_choose_port:
                        continue
                    reason = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
                    place = Place(config.host, port)
                    raise RaySystemError(f"{place} cannot be had for the control server: {reason}") from None
                return int(probe.getsockname()[1])
        raise AssertionError("the system has a port")

    def _publish(self, key: KeyFile) -> None:
        """Let `ray stop` find the keeper."""
        facts = KeeperFacts(key.name, key.session, str(key.place), self._config.key_path)
        path = os.path.join(self._config.folder, KEEPER_FILE)
        with open(path + ".new", "wb") as file:
            file.write(msgspec.json.encode(facts))
        os.rename(path + ".new", path)

    def _start_node(self, session_dir: str) -> None:
        key, node, before = self._key, self._config.node, self._node
        assert key is not None
        assert node.cluster is not None
        assert self._server is not None
        cluster = msgspec.structs.replace(
            node.cluster,
            control=self._server.address,
            key_file=self._config.key_path,
            address=str(key.place),
            keeper=os.getpid(),
            ended=before.facts.node if before else 0,
        )
        config = msgspec.structs.replace(node, session_dir=session_dir, cluster=cluster)
        os.umask(self._umask)  # workers have it as well
        try:
            self._node = StartedNode(config)
        finally:
            os.umask(0o077)

    # --- the life -----------------------------------------------------------------------------------------------------

    def keep(self, stopping: int, lifeline: socket.socket | None) -> bool:
        """Wait for the end of the cluster.

        Args:
            stopping: a descriptor that is readable when the keeper is to end.
            lifeline: ends with the program that has started the cluster, and the cluster with it; None: it goes on.

        Returns:
            Whether it was ended, and did not fail.
        """
        server = os.pidfd_open(self._server.pid) if isinstance(self._server, OwnRedis) else -1
        try:
            while True:
                node = self._node
                assert node is not None
                ready = _await([stopping, server, *([lifeline.fileno()] if lifeline else [])], node.pid)
                if ready and ready != {server}:
                    return True
                if ready:
                    reason = "the control server has ended, and with it the cluster"
                    _say(reason)
                    note_end(node.session_dir, reason)
                    return False
                if node.ended and not self._start_again(was_orderly=node.was_orderly):
                    return node.was_orderly
        finally:
            if server >= 0:
                os.close(server)

    def _start_again(self, *, was_orderly: bool) -> bool:
        """The node manager has ended: have another one, unless it was told to end."""
        if was_orderly:
            _say("the node of the head was stopped, and with it ends the cluster")
            return False
        _say("the node manager has died, and is started again")
        while self._may_restart():
            try:
                self._start_node(place_session(new_session_id()))
            except RaySystemError as error:
                _say(str(error))
            else:
                return True
        _say(f"the node manager has died for the {_RESTARTS + 1}th time within a minute, and the cluster ends")
        return False

    def _may_restart(self) -> bool:
        """Count one more start, unless there were too many."""
        now = monotonic()
        while self._restarts and now - self._restarts[0] > _MINUTE_S:
            self._restarts.popleft()
        if len(self._restarts) >= _RESTARTS:
            return False
        self._restarts.append(now)
        return True

    # --- the end ------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """End everything, in the order in which it leans on each other. Idempotent."""
        if self._node is not None:
            self._node.stop()
            self._node = None
        key, self._key = self._key, None
        if key is not None:
            remove_key_file(self._config.key_path, key.session)
            if self._has_name and self._config.control:
                with contextlib.suppress(OSError, RefusedError):
                    release_name(key, _ASK_S)
        if self._server is not None:
            self._server.close()
            self._server = None


def _await(descriptors: list[int], pid: int) -> set[int]:
    """Wait until a child ends, or a descriptor (-1: none) is readable; returns those that are."""
    child = os.pidfd_open(pid)
    try:
        poll = select.poll()
        for descriptor in (*descriptors, child):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        return {descriptor for descriptor, _ in poll.poll()} - {child}
    finally:
        os.close(child)


def _say(text: str) -> None:
    print(f"ray: {text}", file=sys.stderr, flush=True)
