"""Sessions: ``init``, ``shutdown`` and what they return."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack, cast

from ray import later_names
from ray.api.address import cluster_address, join_node_of, join_session, session_to_join
from ray.api.options import check_name, custom_resources, memory_bytes, quantity, seconds, whole_quantity
from ray.api.sent_code import RuntimeEnv, wanted_code
from ray.config.spelling import did_you_mean
from ray.exceptions import RayConnectionError, RayError
from ray.exceptions.base import cut_frames
from ray.exceptions.shadowed import explain, shadowed
from ray.protocol.resources import UNIT
from ray.runtime import interface
from ray.runtime.cluster.wanted import CONNECT_S
from ray.runtime.interface import Runtime
from ray.runtime.process.interrupts import forget_signals
from ray.runtime.process.telling import log as _log
from ray.runtime.start_options import DEFAULT_NAMESPACE, JoinOptions, StartOptions

if TYPE_CHECKING:
    from ray.plugins.plan import ResolvedPlan
    from ray.runtime.cluster.key_folder import FoundKey

#: Held while a session starts or ends, so that two threads cannot start two.
_lock = threading.RLock()
#: What is under way in the thread that holds the lock: a signal handler, or a finaliser, may interrupt it.
_under_way = ""
_registered = False
#: What calls say that come afterwards.
_SHUT_DOWN = (
    "The session was shut down, by ray.shutdown() or at the end of 'with ray.init()'. You can start Ray again with "
    "'ray.init()'; references and actors of the old session are of no use in the new one."
)

#: Objects of 100 KiB and more go into the store: one that is not much larger holds none.
MIN_STORE_BYTES = 1 << 20
MOST_GPUS = 10_000
_SEAMS = ("store", "transport", "scheduler", "selector", "control", "executor", "observers")
#: What describes the machine, and so cannot be said to a cluster that runs already.
_START_UP = ("num_cpus", "num_gpus", "resources", "memory", "object_store_memory")


class InitOptions(TypedDict, total=False):
    """Keywords of ``ray.init``; None is the default of each."""

    redis_address: str | None
    num_cpus: float | None
    num_gpus: float | None
    resources: Mapping[str, float] | None
    memory: int | None
    object_store_memory: int | None
    namespace: str | None
    local_mode: bool
    ignore_reinit_error: bool
    log_to_driver: bool
    store: str | None
    transport: str | None
    scheduler: str | None
    selector: str | None
    control: str | None
    executor: str | None
    observers: Sequence[str] | None
    options: Mapping[str, Mapping[str, Any]] | None
    connect_timeout_s: float | None
    working_dir: str | os.PathLike[str] | None
    runtime_env: RuntimeEnv | None


class RayContext(Mapping[str, Any]):
    """What ``ray.init`` returns: the addresses of the session as a mapping, and a context manager that ends it.

    Where the session was there already, leaving the context leaves it to the code that has started it.
    """

    def __init__(self, runtime: Runtime, *, started: bool = True) -> None:
        self._runtime = runtime
        self._started = started
        self.address_info: dict[str, Any] = dict(runtime.address_info)

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]

    if not TYPE_CHECKING:  # checkers are to see a misspelt name

        def __getattr__(self, name: str) -> Any:
            instead = later_names.sentence("what ray.init() returns", name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}.{instead}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

    def __repr__(self) -> str:
        return f"RayContext({self.address_info!r})"

    def is_current(self) -> bool:
        """Whether this session is that of the process still."""
        return interface.current() is self._runtime

    def disconnect(self) -> None:
        """End this session, if it is still the current one."""
        with _lock:
            if self.is_current():
                shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._started:
            self.disconnect()


def init(address: str | None = None, **options: Unpack[InitOptions]) -> RayContext:
    """Start a session on this machine, or join a cluster that runs.

    Args:
        address: ``host:port`` of a cluster to join, or its name, or ``"auto"`` for the only one whose key file this
            user has; without it, ``RAY_ADDRESS``; without that, a session is started here. ``"local"`` starts one here
            whatever the environment says.
        **options: ``redis_address`` is ``address`` by its older name.
            What the session offers, by default what the machine has: ``num_cpus``, ``num_gpus``, ``resources`` (custom
            amounts by name), ``memory`` and ``object_store_memory`` (bytes). Not allowed with an address.
            ``namespace`` (of actor names), ``log_to_driver`` (True: show what workers print), ``ignore_reinit_error``
            (True: a second ``init`` returns the session there is, which goes on when that context is left),
            ``local_mode`` (True: run everything at once in this process, for debugging).
            The parts: ``store``, ``transport``, ``scheduler``, ``selector``, ``control``, ``executor``: the name of a
            plugin or a dotted path to one; ``observers``: names of plugins that watch; ``options``:
            ``{part: {option: value}}``. With an address: what the cluster has, or nothing.
            ``working_dir``: a directory with the program's modules and data, at most 100 MiB when it is packed. A copy
            is the current directory of all workers, on every node, and the first place where they look for modules.
            ``runtime_env``: ``{"working_dir": ..., "env_vars": {name: text}}``; the latter is for their environment.
            ``connect_timeout_s`` (5): how long to wait for an answer of the cluster.

    Returns:
        A mapping of addresses that is also a context manager.

    Raises:
        RuntimeError: there is a session already.
        ValueError, TypeError: an argument that is wrong, named in the message; nothing was started.
        PluginError: a part that does not exist, is not installed, or does not fit.
        RayConnectionError: an address was given, and no cluster answers there, or none of its nodes can be reached.
        KeyFileError: the key file of the cluster cannot be used.
    """
    __tracebackhide__ = True
    unknown = later_names.settle("ray.init", options, quiet=True).keys() - InitOptions.__annotations__.keys()
    if unknown:
        name = min(unknown)
        known = ["address", *InitOptions.__annotations__]
        instead = later_names.sentence("ray.init", name) or did_you_mean(name, known)
        raise TypeError(f"ray.init() has no option {name!r}.{instead}")
    try:
        ignore = _flag(options, "ignore_reinit_error", default=False)
        with _lock:
            running = interface.current()
            if running is not None and not _under_way:
                return _again(running, address, options, ignore)
            with _alone("ray.init()"):
                runtime = _start(address, options)
                interface.set_current(runtime)
                _shut_down_at_exit()
            return RayContext(runtime)
    except (RayError, TypeError, ValueError, RuntimeError, KeyboardInterrupt) as error:
        if isinstance(error, RuntimeError) and not _under_way:
            explain(error)
        cut_frames(error)
        raise
    except (ImportError, AttributeError) as error:
        explain(error)
        raise


def shutdown(_exiting_interpreter: bool = False) -> None:
    """End the session and everything that it started. Runs by itself when Python exits.

    Without a session, and in a worker, whose session is the driver's, it does nothing.

    Args:
        _exiting_interpreter: taken for the sake of programs of other releases.
    """
    with _lock:
        runtime = interface.current()
        if runtime is None or runtime.is_worker or _under_way:  # the session starts, or ends already
            return
        try:
            with _alone("ray.shutdown()"):
                runtime.shutdown()
        except KeyboardInterrupt as error:
            cut_frames(error)
            raise
        finally:
            interface.set_current(None)
            RayConnectionError.absence = _SHUT_DOWN


@contextlib.contextmanager
def _alone(call: str) -> Iterator[None]:
    """Have no signal handler or finaliser that interrupts ``call`` start a session, which ``call`` would forget."""
    global _under_way
    if interface.own_process:
        raise RuntimeError(
            f"{call} was called in a process of the runtime ({interface.own_process}), which has imported a module of "
            "the program by the name of one that it needs. Rename that file, or call ray.init() under "
            "'if __name__ == \"__main__\":'."
        )
    if _under_way:
        raise RuntimeError(
            f"{call} was called in the middle of {_under_way}: by a signal handler or a destructor that has "
            "interrupted it, which had better set a flag for the program to look at, or by a file of the program that "
            "has the name of a module which is needed, and was imported in its place."
        )
    _under_way = call
    try:
        yield
    finally:
        _under_way = ""


def _after_fork_in_child() -> None:
    """Another thread of the parent may have been in the middle of a start or an end; it is not here."""
    global _lock, _under_way
    _lock, _under_way = threading.RLock(), ""


os.register_at_fork(after_in_child=_after_fork_in_child)


def is_initialized() -> bool:
    """Whether this process has a session."""
    return interface.current() is not None


def _again(running: Runtime, address: str | None, options: InitOptions, ignore: bool) -> RayContext:
    if not ignore:
        where, instead = "a second time", ", or call ray.shutdown() first"
        if running.is_worker:
            where = "in a task or actor, which has a session, that of the driver"
            instead = "; another one can be started only by the driver, after ray.shutdown()"
        raise RuntimeError(
            f"Maybe you called ray.init twice by accident? It was called {where}. Pass ignore_reinit_error=True to "
            f"go on with the session there is{instead}."
        )
    local_mode = _flag(options, "local_mode", default=False)
    with contextlib.suppress(RayConnectionError):  # "auto" may mean the session there is
        cluster_address(address, options.get("redis_address"), local_mode=local_mode)
    _checked(options)
    wanted_code(options.get("working_dir"), options.get("runtime_env"))
    if any(options.get(name) is not None for name in (*_SEAMS, "options")):
        _plan(options, local_mode)
    _log.info("ray.init() was called again: the session there is goes on, and the arguments are ignored")
    return RayContext(running, started=False)


def _start(address: str | None, options: InitOptions) -> Runtime:
    local_mode = _flag(options, "local_mode", default=False)
    cluster = cluster_address(address, options.get("redis_address"), local_mode=local_mode)
    timeout_s = seconds("connect_timeout_s", options.get("connect_timeout_s"))
    if cluster is not None:
        _refuse_start_up_options(cluster.source, options)
        return join_node_of(
            cluster,
            CONNECT_S if timeout_s is None else timeout_s,
            lambda found: _join(found, options) if isinstance(found, str) else _join("", options, found),
        )
    session_dir = session_to_join(address, options.get("redis_address"), local_mode=local_mode)
    if session_dir is not None:
        return join_session(lambda: _join(session_dir, options))
    options = cast("InitOptions", later_names.settle("ray.init", options))
    checked = _checked(options)
    wanted = wanted_code(options.get("working_dir"), options.get("runtime_env"))
    _refuse_foreign_package()
    plan, code = _plan(options, local_mode), wanted.send()
    start_options = StartOptions(plan, **checked, code=code)
    if local_mode:
        code.close()
        from ray.runtime.local.session import LocalRuntime

        return LocalRuntime(start_options)
    from ray.runtime.driver.start import start

    for sentence in shadowed():
        _log.warning("%s", sentence)
    return start(start_options)


def _join(session_dir: str, options: InitOptions, key: FoundKey | None = None) -> Runtime:
    from ray.runtime.driver.start import join

    given = [name for name in (*_START_UP, *sorted(later_names.START_UP)) if options.get(name) is not None]
    if options.get("local_mode"):
        given.append("local_mode")
    if given:
        raise ValueError(
            f"When joining a session that runs (address='unix:{session_dir}'), {' and '.join(given)} must not be "
            "provided: the node was told when it was started."
        )
    options = cast("InitOptions", later_names.settle("ray.init", options))
    checked = _checked(options)
    code = wanted_code(options.get("working_dir"), options.get("runtime_env"))
    _refuse_foreign_package()
    chosen = {name: found for name in _SEAMS if (found := options.get(name)) is not None}
    wanted = options.get("options") or {}
    namespace, log_to_driver = checked["namespace"], checked["log_to_driver"]
    return join(JoinOptions(session_dir, chosen, wanted, namespace, log_to_driver, key, code.send()))


def _plan(options: InitOptions, local_mode: bool) -> ResolvedPlan:
    from ray.plugins.planning import resolve_plan

    chosen: dict[str, Any] = {name: options.get(name) for name in _SEAMS}
    return resolve_plan(**chosen, options=options.get("options"), local_mode=local_mode)


def _checked(options: InitOptions) -> dict[str, Any]:
    """The fields of ``StartOptions`` but for the plan."""
    cpus, gpus = options.get("num_cpus"), options.get("num_gpus")
    memory, store = options.get("memory"), options.get("object_store_memory")
    namespace = options.get("namespace")
    held = 0 if gpus is None else whole_quantity("num_gpus", gpus)
    if held > MOST_GPUS * UNIT:
        raise ValueError(f"num_gpus must be at most {MOST_GPUS}, as each gets an id, not {gpus!r}")
    if store is not None and memory_bytes("object_store_memory", store) < MIN_STORE_BYTES:
        raise ValueError(
            f"object_store_memory (bytes) must be greater than 0, at least {MIN_STORE_BYTES:,}, not {store!r}"
        )
    return {
        "num_cpus": None if cpus is None else quantity("num_cpus", cpus),
        "num_gpus": None if gpus is None else held,
        "resources": custom_resources(options.get("resources")),
        "memory_bytes": None if memory is None else memory_bytes("memory", memory),
        "object_store_bytes": None if store is None else memory_bytes("object_store_memory", store),
        "namespace": DEFAULT_NAMESPACE if namespace is None else check_name(namespace, "Namespace"),
        "log_to_driver": _flag(options, "log_to_driver", default=True),
    }


def _flag(options: InitOptions, name: str, *, default: bool) -> bool:
    value: object = options.get(name, default)
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


def _refuse_start_up_options(source: str, options: InitOptions) -> None:
    given = [name for name in (*_START_UP, *sorted(later_names.START_UP)) if options.get(name) is not None]
    if options.get("local_mode"):
        given.append("local_mode")
    if given:
        raise ValueError(
            f"When connecting to an existing cluster ({source}), {' and '.join(given)} must not be provided: the "
            "cluster was told when it was started."
        )


def _refuse_foreign_package() -> None:
    from ray.plugins.discovery import foreign_owners, ownership_conflict

    others = foreign_owners()
    if others:
        raise ImportError(ownership_conflict(others))


def _shut_down_at_exit() -> None:
    global _registered
    if not _registered:
        _registered = True
        atexit.register(_at_exit)


def _at_exit() -> None:
    """As ``shutdown``; a Ctrl-C meanwhile asks for the end of the program, and that is what comes next."""
    with contextlib.suppress(KeyboardInterrupt):
        shutdown()
    forget_signals()
