"""The backend "ray" of joblib. Imported by ``register_ray`` alone, because joblib takes long to import."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from ray.api.inspection import cluster_resources
from ray.exceptions import RayConnectionError
from ray.util.executor.calls import Calls
from ray.util.executor.futures import Call, RayFuture
from ray.util.executor.places import TaskPlaces, shared_out
from ray.util.executor.window import Window
from ray.util.joblib.batches import SharedArrays, packed, run_batch
from ray.util.own_session import OwnSession

#: What ``Parallel`` tells all backends, and only those with processes of joblib's own need.
_OTHERS = frozenset(("context", "idle_worker_timeout", "mmap_mode", "temp_folder", "verbose"))


class RayBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Each batch is a task. A nested ``Parallel`` makes tasks of its own; while it waits, its task gives up its CPU."""

    supports_retrieve_callback = True
    uses_threads = False
    supports_sharedmem = False
    supports_inner_max_num_threads = True

    #: Seconds that joblib's automatic batches aim at: a task costs much less than its own processes.
    MIN_IDEAL_BATCH_DURATION = 0.04
    MAX_IDEAL_BATCH_DURATION = 0.5

    def __init__(
        self, nesting_level: int | None = None, inner_max_num_threads: int | None = None, **options: Any
    ) -> None:
        """Make it.

        Args:
            nesting_level: how many calls of ``Parallel`` this one is in.
            inner_max_num_threads: how many threads native libraries may use in a call: its ``num_cpus``.
            **options: of ``ray.remote``, for the tasks.
        """
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._given = options
        self._n_jobs = 1
        self._session: OwnSession | None = None
        self._places: TaskPlaces | None = None
        self._calls: Calls | None = None
        self._shared = SharedArrays()

    # --- how many -----------------------------------------------------------------------------------------------------

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many calls run at a time: as asked for; -1 is all that the session has processors for, -2 one less."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        self._have_session()
        return max(1, int(self._cpus()) + 1 + n_jobs)

    def _options(self) -> dict[str, Any]:
        threads = self.inner_max_num_threads  # joblib sets it afterwards
        return self._given if threads is None else {"num_cpus": threads, **self._given}

    def _cpus(self) -> float:
        return cluster_resources().get("CPU", 0.0) / (self._options().get("num_cpus") or 1)

    # --- a call of Parallel -------------------------------------------------------------------------------------------

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: object = None,
        require: object = None,
        max_nbytes: int | None = None,
        **options: Any,
    ) -> int:
        """Be ready for calls; ``max_nbytes`` is from where on arrays are shared, None for none."""
        n_jobs = self.effective_n_jobs(n_jobs)
        self.parallel = parallel
        if n_jobs == 1:
            self.terminate()
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self._have_session()
        self._n_jobs = n_jobs
        self._shared.least_bytes = max_nbytes
        options = {**self._options(), **{name: value for name, value in options.items() if name not in _OTHERS}}
        cpus = self._cpus()
        self._places = TaskPlaces(shared_out(options, cpus, n_jobs))
        self._calls = Calls(self._places, Window(n_jobs, ahead=n_jobs >= cpus), outlives=False)
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> RayFuture[Any]:
        """Have a batch run."""
        batch, given, arrays = packed(func, self._shared)
        calls = self._calls
        assert calls is not None
        future: RayFuture[Any] = RayFuture(calls, Call(run_batch, (batch, given, *arrays), {}))
        calls.add(future)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    #: Its name in earlier releases.
    apply_async = submit

    def retrieve_result_callback(self, out: RayFuture[Any]) -> Any:
        """What a batch has come to."""
        return out.result()

    def stop_call(self) -> None:
        """``Parallel`` returns."""
        self._shared.clear()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End the calls, also those that run."""
        calls, places = self._calls, self._places
        if calls is None or places is None:
            return
        calls.close(RuntimeError("joblib.Parallel was aborted"), cancel=True)
        with contextlib.suppress(RayConnectionError):  # the session has ended, and the calls with it
            places.end(calls.running())
        calls.wait()
        self._calls = None
        left = getattr(self.parallel, "_ready_batches", None)
        while left is not None and not left.empty():  # joblib would run them in the next call
            left.get_nowait()
        if ensure_ready:
            self.configure(self._n_jobs, self.parallel)

    def terminate(self) -> None:
        """Give back what was started."""
        self._shared.clear()
        self._calls = self._places = None
        self.reset_batch_stats()
        session, self._session = self._session, None
        if session is not None:
            session.end()

    # --- within a call ------------------------------------------------------------------------------------------------

    def get_nested_backend(self) -> tuple[RayBackend, None]:
        """What ``Parallel`` uses in a call: the same."""
        return RayBackend((self.nesting_level or 0) + 1, self.inner_max_num_threads, **self._given), None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.nesting_level, self.inner_max_num_threads, self._given)

    def _have_session(self) -> None:
        if self._session is None:
            self._session = OwnSession()


def _rebuilt(nesting_level: int | None, inner_max_num_threads: int | None, options: dict[str, Any]) -> RayBackend:
    return RayBackend(nesting_level, inner_max_num_threads, **options)
