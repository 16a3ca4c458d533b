"""The scheduler: which task of a graph runs next is Dask's choice, where it runs is the session's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, MutableMapping
from importlib import import_module
from typing import Any, TypeAlias

from ray.api.inspection import cluster_resources
from ray.api.objects import get, put, wait
from ray.api.options import whole_number
from ray.api.remote_function import RemoteFunction
from ray.runtime.completion import session_of
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.refs.session import failure_of
from ray.util.own_session import OwnSession

#: So many tasks are under way, or wait to be taken, for each processor of the session. More would run in an order that
#: keeps more results in memory than Dask's does.
AHEAD = 2
_MAX_NAME = 80

Key: TypeAlias = Hashable
State: TypeAlias = MutableMapping[str, Any]
"""As ``dask.local`` has it, and callbacks see it; its ``cache`` holds references."""


def ray_dask_get(
    dsk: Any,
    keys: Any,
    *,
    num_workers: int | None = None,
    ray_persist: bool = False,
    ray_remote_args: Mapping[str, Any] | None = None,
    ray_callbacks: Collection[Any] | None = None,
    **ignored: Any,
) -> Any:
    """Compute keys of a graph of Dask, each of its tasks as one of the session: ``x.compute(scheduler=ray_dask_get)``.

    Results go from one task to the next by reference, and are let go of when the last one that needs them has run. The
    first failure cancels what is under way. Without a session one is started, and ended when the result is there.

    Args:
        dsk: a graph, a ``HighLevelGraph`` or an expression.
        keys: a key, or lists of keys, also in lists.
        num_workers: how many tasks may be under way; by default twice the processors of the session.
        ray_persist: return references to the results.
        ray_remote_args: options of ``ray.remote`` for each task; ``dask.annotate(ray_remote_args={...})`` gives options
            to some.
        ray_callbacks: callbacks of Dask for this computation, in place of those that are registered. What ``posttask``
            gets for a result is a reference.
        **ignored: keywords of other schedulers.

    Returns:
        The results, nested as the keys.

    Raises:
        ImportError: Dask is missing.
        Exception: of the task that failed; the name of the task has its key.
        TypeError, ValueError: an argument that is wrong.
        RayError: as ``ray.get``.
    """
    local: Any = module("dask.local")
    core: Any = module("dask.core")
    callbacks: Any = module("dask.callbacks")
    if num_workers is not None:
        num_workers = whole_number("num_workers", num_workers, least=1)
    annotated: Any = getattr(dsk, "__dask_annotations__", None)
    annotations = {} if annotated is None else annotated().get("ray_remote_args", {})
    graph = module("dask._task_spec").convert_legacy_graph(
        dict(dsk if isinstance(dsk, Mapping) else dsk.__dask_graph__())
    )
    wanted = set(core.flatten(keys)) if isinstance(keys, list) else {keys}
    own = OwnSession()
    try:
        run = _Run(graph, wanted, ray_remote_args or {}, annotations)
        with callbacks.local_callbacks(None if ray_callbacks is None else _normal(callbacks, ray_callbacks)) as given:
            run.go(given, num_workers or AHEAD * max(1, int(cluster_resources().get("CPU", 0.0))))
        results = local.nested_get(keys, run.results())
        return results if ray_persist else _values(results)
    finally:
        own.end()


class _Run:
    """One computation."""

    def __init__(
        self,
        graph: Mapping[Key, Any],
        wanted: Collection[Key],
        options: Mapping[str, Any],
        annotations: Mapping[Key, Mapping[str, Any]],
    ) -> None:
        self._graph = graph
        self._wanted = set(wanted)
        self._options = options
        self._annotations = annotations
        self._local: Any = module("dask.local")
        self._task: Any = RemoteFunction(run_node, {})
        self._order: Callable[[Key], Any] = module("dask.order").order(graph).get
        self._state: State = {}
        #: {what comes of a task that is under way: its key}
        self._running: dict[ObjectRef[Any], Key] = {}

    def go(self, callbacks: Collection[tuple[Any, ...]], limit: int) -> None:
        """Compute what is wanted.

        Args:
            callbacks: (start, start_state, pretask, posttask, finish) of each, or None for those that it has not.
            limit: how many tasks may be under way.
        """
        started = []
        succeeded = False
        try:
            for each in callbacks:
                if each[0]:
                    each[0](self._graph)
                started.append(each)
            self._state = self._local.start_state_from_dask(
                self._graph, cache={}, keys=self._wanted, sortkey=self._order
            )
            for each in started:
                if each[1]:
                    each[1](self._graph, self._state)
            if self._state["waiting"] and not self._state["ready"]:
                raise ValueError("no task of this graph can run first: each waits for another one")
            while self._state["ready"] or self._running:
                while self._state["ready"] and len(self._running) < limit:
                    self._start(self._state["ready"].pop(), callbacks)
                self._take(callbacks)
            succeeded = True
        finally:
            self._cancel()
            for each in started:
                if each[4]:
                    each[4](self._graph, self._state, not succeeded)

    def results(self) -> dict[Key, ObjectRef[Any]]:
        """A reference for each key that is wanted."""
        return {key: self._ref(key) for key in self._wanted}

    def _start(self, key: Key, callbacks: Collection[tuple[Any, ...]]) -> None:
        self._state["running"].add(key)
        for each in callbacks:
            if each[2]:
                each[2](key, self._graph, self._state)
        node = self._graph[key]
        needed = list(self._state["dependencies"][key])
        name = str(key)
        options = {"name": name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}…", **self._options}
        task = self._task.options(**{**options, **self._annotations.get(key, {})})
        try:
            ref = task.remote(node, needed, *map(self._ref, needed))
        except Exception as error:
            error.add_note(f"This is of the key {key!r} of a graph of Dask.")
            raise
        self._running[ref] = key

    def _take(self, callbacks: Collection[tuple[Any, ...]]) -> None:
        """Wait for one that is done, and take all that are.

        Raises:
            Exception: what one has failed with.
        """
        refs = list(self._running)
        wait(refs, 1)
        for ref in wait(refs, len(refs), 0)[0]:
            if failure_of(ref) is not None:
                get(ref)
            key = self._running.pop(ref)
            self._state["cache"][key] = ref
            self._local.finish_task(self._graph, key, self._state, self._wanted, self._order)
            for each in callbacks:
                if each[3]:
                    each[3](key, ref, self._graph, self._state, None)

    def _ref(self, key: Key) -> ObjectRef[Any]:
        """A reference to what a key stands for; data of the graph itself is sent once."""
        cache = self._state["cache"]
        value = cache[key]
        if not isinstance(value, ObjectRef):
            value = cache[key] = put(value)
        return value

    def _cancel(self) -> None:
        """Have what is under way end; nothing is where all went well."""
        try:
            for ref in self._running:
                session_of(ref).cancel(ref, False, True)
        except ConnectionError:  # their session has ended, and they with it
            pass
        self._running.clear()


def run_node(node: Any, keys: Collection[Key], *values: Any) -> Any:
    """On a worker: run one node of a graph.

    Args:
        node: of ``dask._task_spec``.
        keys: of the nodes that it needs.
        *values: what these came to.
    """
    return node(dict(zip(keys, values, strict=True)))


def _values(results: Any) -> Any:
    """Values in the place of references, in tuples that are nested as the keys were."""
    if isinstance(results, ObjectRef):
        return get(results)
    if all(isinstance(each, ObjectRef) for each in results):
        return tuple(get(list(results)))
    return tuple(map(_values, results))


def _normal(callbacks: Any, given: Collection[Any]) -> set[Any]:
    return {callbacks.normalize_callback(each) for each in given}


def module(name: str) -> Any:
    """A module of Dask.

    Raises:
        ImportError: Dask is missing.
    """
    try:
        import_module("dask")
    except ModuleNotFoundError:
        raise ImportError("ray.util.dask needs Dask: pip install 'ray-core[dask]'", name="dask") from None
    return import_module(name)
