"""``RayExecutor``: ``concurrent.futures`` over tasks and actors."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from ray.api.inspection import cluster_resources
from ray.api.options import whole_number
from ray.clock import monotonic
from ray.exceptions import RayConnectionError
from ray.util.chunking import ChunkSize, chunk_size, runner
from ray.util.executor.calls import Calls
from ray.util.executor.futures import Call, RayFuture
from ray.util.executor.maps import buffered, eager
from ray.util.executor.places import TaskPlaces, shared_out
from ray.util.executor.window import Window
from ray.util.executor.workers import ActorPlaces
from ray.util.own_session import OwnSession

P = ParamSpec("P")
R = TypeVar("R")


class RayExecutor(concurrent.futures.Executor):
    """A ``concurrent.futures.Executor`` whose calls run in the processes of a session, on all its nodes.

    With an initializer, or a limit of calls for each worker, the workers are actors of this executor; else calls are
    tasks. References among the arguments are replaced by their values.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: object = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        **options: Any,
    ) -> None:
        """Make one; where there is no session it starts one, and ends it in ``shutdown``.

        Args:
            max_workers: how many calls may run at a time; by default as many as the session has processors.
            mp_context: taken for the sake of programs that pass it to ``ProcessPoolExecutor``.
            initializer: called in each worker before its first call. If it raises, the executor is broken.
            initargs: its arguments.
            max_tasks_per_child: how many calls, or chunks of ``map``, a worker runs before it is replaced.
            **options: of ``ray.remote``, for the calls (or the actors): ``num_cpus``, ``resources``, ``max_retries`` …
                A call whose worker dies is not run again, unless ``max_retries`` says so.

        Raises:
            TypeError, ValueError: an argument that is wrong.
            RayError: as ``ray.init``.
        """
        if max_workers is not None:
            max_workers = whole_number("max_workers", max_workers, least=1)
        if max_tasks_per_child is not None:
            max_tasks_per_child = whole_number("max_tasks_per_child", max_tasks_per_child, least=1)
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a callable, not {initializer!r}")
        as_actors = initializer is not None or max_tasks_per_child is not None
        places: TaskPlaces | ActorPlaces | None = None if as_actors else TaskPlaces(options)
        self._session = OwnSession()
        try:
            cpus = cluster_resources().get("CPU", 0.0)
            self._max_workers = max_workers or max(1, int(cpus))
            if places is None:
                places = ActorPlaces(self._max_workers, initializer, initargs, max_tasks_per_child, options)
            elif max_workers is not None:
                places = TaskPlaces(shared_out(options, cpus, max_workers))
        except BaseException:
            self._session.end()
            raise
        self._places = places
        self._calls = Calls(
            places, Window(self._max_workers, ahead=max_workers is None and not as_actors), keeps=self._session.is_own
        )

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RayFuture[R]:
        """Have ``fn`` called; returns at once.

        What cannot be sent, such as a function that cannot be pickled, is the error of the future.

        Raises:
            RuntimeError: the executor was shut down.
            BrokenExecutor: its initializer has failed.
        """
        future: RayFuture[R] = RayFuture(self._calls, Call(fn, args, kwargs))
        self._calls.add(future)
        return future

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """As the built-in ``map``, with calls that run at the same time. Results come in order.

        Args:
            fn: the function.
            *iterables: taken at once; with ``buffersize`` as results are taken.
            timeout: seconds from now, after which waiting for a result raises ``TimeoutError``.
            chunksize: how many calls at least travel together; more do where calls are short. With ``buffersize``, so
                many.
            buffersize: how many chunks may be under way whose results have not been taken.

        Raises:
            RuntimeError: the executor was shut down.
            TypeError, ValueError: an argument that is wrong.
        """
        timeout_s = None if timeout is None else max(0.0, timeout)
        end = None if timeout_s is None else monotonic() + timeout_s
        least = whole_number("chunksize", chunksize, least=1)
        runs = self._places.prepared(runner(fn, name := getattr(fn, "__name__", type(fn).__name__)), name)
        if buffersize is not None:
            most = whole_number("buffersize", buffersize, least=1)
            return buffered(self._calls, runs, iterables, chunk_size(least), end, most)
        return eager(self._calls, runs, iterables, ChunkSize(least), end)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Shut it down. Ctrl-C in the block ends what runs, and cancels the rest."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._calls.close(_shut_down(), cancel=True)
            with contextlib.suppress(RayConnectionError):  # the session has ended, and the calls with it
                self._places.end(self._calls.running())
        self.shutdown()
        return None

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: return when all calls have ended. Without it, those that were submitted run on all the same.
            cancel_futures: cancel what has not started.
        """
        self._calls.close(_shut_down(), cancel=cancel_futures)
        if wait:
            self._calls.wait()
            if self._session.is_own:
                self._calls.keep()
            self._places.close()
            self._session.end()


def _shut_down() -> RuntimeError:
    return RuntimeError("cannot schedule new futures after shutdown")
