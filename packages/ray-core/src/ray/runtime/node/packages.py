"""The directories that jobs have sent along, on one node: they are fetched in pieces, unpacked, and removed.

A node fetches a directory from where its job comes from: the node of the program from the program, and others from the
node that wants workers of the job from them. The file stays while other nodes may ask for it. It is unpacked once for
all workers of the job, which start when that is done.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Sequence

from ray.abc.transport import Frame
from ray.exceptions import RemoteProtocolError
from ray.messages import jobs
from ray.runtime.cluster.lending import RemoteDriver
from ray.runtime.node.chores import DIED, Chore, Chores
from ray.runtime.node.client import Client
from ray.runtime.node.jobs import Job, Jobs
from ray.runtime.node.unpacking import MAX_PACKED_BYTES, no_room
from ray.runtime.process.node_start import Package
from ray.runtime.process.packed_directory import PIECE_BYTES, piece_of
from ray.runtime.process.timers import Timers

#: Pieces that are asked for at a time.
AHEAD = 4
#: What a process was to do that was killed is tried so often, and not waited for longer than this.
_TRIES, _AGAIN_S, _LIMIT_S = 3, 0.2, 120.0


class _Stock:
    """The directory of one job."""

    __slots__ = ("archive", "fd", "folder", "is_gone", "is_whole", "left", "package", "source", "tries", "waiting")

    def __init__(self, package: Package, folder: str) -> None:
        self.package = package
        #: What the ZIP file is unpacked into.
        self.folder = folder
        self.archive = f"{folder}.zip"
        #: Of the ZIP file; -1: it is not open.
        self.fd = -1
        #: Process id of where it is fetched from.
        self.source = b""
        #: Offsets of pieces that were not asked for, and of those that were and have not come.
        self.left = deque(range(0, package.size, PIECE_BYTES))
        self.waiting: set[int] = set()
        #: All of it is in the file.
        self.is_whole = False
        #: Its job is over.
        self.is_gone = False
        self.tries = 0


class NodePackages:
    """Implements ``JobPackages``."""

    def __init__(
        self,
        session_dir: str,
        known: Jobs,
        chores: Chores,
        timers: Timers,
        on_prepared: Callable[[Job, str], None],
        *,
        others_may_ask: bool,
    ) -> None:
        """There are none yet.

        Args:
            session_dir: where they are.
            known: the jobs of this node.
            chores: unpack and remove.
            timers: of this node manager.
            on_prepared: told when workers of a job may start, and what is lacking: a clause, or empty.
            others_may_ask: there may be other nodes, which fetch from this one.
        """
        self._session_dir = session_dir
        self._jobs = known
        self._chores = chores
        self._timers = timers
        self._on_prepared = on_prepared
        self._others_may_ask = others_may_ask
        #: {job: its directory}
        self._stocks: dict[str, _Stock] = {}
        #: A job may come again while what it had before is removed.
        self._numbers = itertools.count(1)

    # --- fetching -----------------------------------------------------------------------------------------------------

    def changed(self, job: Job) -> None:
        """See ``JobPackages``."""
        package = None if job.config is None else job.config.package
        if package is None or job.is_prepared or job.is_over:
            return
        stock = self._stocks.get(job.id)
        driver = job.driver
        if driver is None:
            if stock is not None and not stock.is_whole:
                self._end(job, stock, "the program has ended before it was sent")
            return
        if stock is None:
            folder = os.path.join(self._session_dir, f"working_dir-{job.id}-{next(self._numbers)}")
            stock = self._stocks[job.id] = _Stock(package, folder)
            if not 0 < package.size <= MAX_PACKED_BYTES:
                self._end(job, stock, "it is too large")
                return
            try:
                stock.fd = os.open(stock.archive, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except OSError as error:
                self._end(job, stock, f"it cannot be written down: {error.strerror}")
                return
        source = driver.home.id if isinstance(driver, RemoteDriver) else driver.id
        if source != stock.source and not stock.is_whole:
            stock.source = source
            stock.left.extendleft(sorted(stock.waiting, reverse=True))
            stock.waiting.clear()
            self._ask(job, stock)

    def _ask(self, job: Job, stock: _Stock) -> None:
        while stock.left and len(stock.waiting) < AHEAD and job.driver is not None:
            offset = stock.left.popleft()
            stock.waiting.add(offset)
            job.driver.send(jobs.AskPackage(job.id, offset))

    def take(self, client: Client, message: jobs.PackagePiece, frames: Sequence[Frame] = ()) -> None:
        """A piece has come."""
        if client.kind not in ("driver", "node"):
            raise RemoteProtocolError(f"a {client.kind} that sends a working directory")
        stock, job = self._stocks.get(message.job), self._jobs.get(message.job)
        if stock is None or job is None or client.id != stock.source or message.offset not in stock.waiting:
            return  # it is late
        stock.waiting.discard(message.offset)
        problem = message.error or self._write(stock, message)
        if problem:
            self._end(job, stock, problem)
        elif stock.left or stock.waiting:
            self._ask(job, stock)
        else:
            stock.is_whole = True
            self._unpack(job, stock)

    def _write(self, stock: _Stock, message: jobs.PackagePiece) -> str:
        """Write a piece down; returns what is wrong."""
        data, at = memoryview(message.data), message.offset
        if len(data) != min(PIECE_BYTES, stock.package.size - at):
            return "a part of it has come with another size than it has"
        try:
            while data:
                written = os.pwrite(stock.fd, data, at)
                data, at = data[written:], at + written
        except OSError as error:
            return no_room(error, self._session_dir) or f"it cannot be written down: {error.strerror}"
        return ""

    def piece(self, job: str, offset: int) -> jobs.PackagePiece:
        """See ``JobPackages``."""
        stock = self._stocks.get(job)
        if stock is None or not stock.is_whole or stock.fd < 0:
            return jobs.PackagePiece(job, offset, error="the node that it should come from does not have it")
        return piece_of(stock.fd, stock.package.size, job, offset)

    # --- unpacking ----------------------------------------------------------------------------------------------------

    def _unpack(self, job: Job, stock: _Stock) -> None:
        limit = self._timers.after(_LIMIT_S, lambda: done(f"it was not unpacked within {_LIMIT_S:g} s"))

        def done(problem: str) -> None:
            limit.cancel()
            if stock.is_gone:
                self._remove(stock)
            elif problem == DIED and stock.tries < _TRIES:
                stock.tries += 1
                self._timers.after(_AGAIN_S, lambda: self._unpack(job, stock))
            else:
                self._end(job, stock, problem)

        self._chores.begin(Chore(stock.archive, stock.folder, stock.package), done)

    def _end(self, job: Job, stock: _Stock, problem: str) -> None:
        """It is there, or is not going to be; either way workers may start."""
        if job.is_prepared or stock.is_gone:
            return
        stock.left.clear()
        stock.waiting.clear()
        if not (stock.is_whole and self._others_may_ask):
            self._close(stock)
            with contextlib.suppress(OSError):
                os.unlink(stock.archive)
        self._on_prepared(job, self._jobs.prepare(job, stock.folder, problem))

    # --- the end ------------------------------------------------------------------------------------------------------

    def forget(self, job: Job) -> None:
        """See ``JobPackages``."""
        stock = self._stocks.pop(job.id, None)
        if stock is not None:
            stock.is_gone = True
            self._close(stock)
            if job.is_prepared or not stock.is_whole:  # else it is being unpacked
                self._remove(stock)

    def _close(self, stock: _Stock) -> None:
        fd, stock.fd = stock.fd, -1
        if fd >= 0:
            os.close(fd)

    def _remove(self, stock: _Stock, tries: int = _TRIES) -> None:
        def done(problem: str) -> None:
            if problem and tries:
                self._timers.after(_AGAIN_S, lambda: self._remove(stock, tries - 1))

        self._chores.begin(Chore(stock.archive, stock.folder), done)
