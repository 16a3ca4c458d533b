"""Names of other releases of Ray, from 0.4 to 2.x: what each is called here, or why there is none.

The one table of its kind: ``docs/migration-names.md`` shows it, and what refuses an unknown name looks it up here. When
a feature comes, its line goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

ALIAS, IGNORED, ABSENT = "alias", "ignored", "absent"


class Name(NamedTuple):
    """What becomes of a name."""

    kind: str
    text: str
    """ALIAS: the name here. IGNORED: why it does no harm. ABSENT: what there is instead; may be empty."""


def _alias(name: str) -> Name:
    return Name(ALIAS, name)


def _ignored(why: str) -> Name:
    return Name(IGNORED, why)


def _absent(instead: str = "") -> Name:
    return Name(ABSENT, instead)


_NO_DASHBOARD = _ignored("there is no dashboard")
_REDIS = _ignored("the session of one machine has no Redis")
_PATHS = _ignored("the session chooses its own folders and sockets; ray.init() returns them")
_LOGGING = _ignored("configure logging.getLogger('ray') with the logging module")
_ENVIRONMENT = _absent("ray.init(runtime_env=...) is for all tasks and actors of a program.")
_PACKAGES = _absent("Install packages in the environment in which the nodes run.")
_PLACEMENT = _absent("node=, labels= and resources= say where it runs; scheduling_strategy='SPREAD' spreads.")
_LABELS = _absent("labels={'zone': ['a', 'b']} names labels of nodes; soft=True makes it a wish.")
_RESOURCES = _absent("Name a custom resource instead: ray.init(resources={'A100': 1}), options(resources={'A100': 1}).")
_IDS = _absent("Ids are bytes and hexadecimal text: ray.get_runtime_context().get_task_id() and its like.")
_LIBRARY = _absent("This package is the core; install such a library apart.")
_QUESTIONS = _absent(
    "ray.nodes(), ray.available_resources() and the commands 'ray doctor' and 'ray memory' say what there is."
)
_COMMANDS = _absent(
    "'ray memory' shows the objects of running sessions, 'ray doctor' what a session would consist of; in the program, "
    "ray.available_resources() and ray.error_info() say more."
)
_NO_CLUSTER = _absent("ray.init(address='host:port') joins a cluster.")
_NO_LAUNCHER = _absent("'ray start' starts the node of the machine where it runs; a program is run like any other.")
_NO_EXCEPTION = _absent("Nothing here raises it.")

_EVERY_OPTION = {
    "runtime_env": _ENVIRONMENT,
    "placement_group": _PLACEMENT,
    "placement_group_bundle_index": _PLACEMENT,
    "placement_group_capture_child_tasks": _PLACEMENT,
    "accelerator_type": _RESOURCES,
    "label_selector": _LABELS,
    "fallback_strategy": _LABELS,
    "object_store_memory": _ignored("the store is shared by all and makes room by itself"),
    "enable_task_events": _ignored("events are noted only while an observer wants them"),
    "_labels": _ignored("they mean nothing here"),
    "_metadata": _ignored("it means nothing here"),
}

#: {where it is used: {name: what becomes of it}}
NAMES: Mapping[str, Mapping[str, Name]] = {
    "ray.init": {
        "include_dashboard": _NO_DASHBOARD,
        "dashboard_host": _NO_DASHBOARD,
        "dashboard_port": _NO_DASHBOARD,
        "include_webui": _NO_DASHBOARD,
        "webui_host": _NO_DASHBOARD,
        "configure_logging": _LOGGING,
        "logging_level": _LOGGING,
        "logging_format": _LOGGING,
        "logging_config": _LOGGING,
        "num_workers": _ignored("workers start as tasks need them; num_cpus limits how many run"),
        "num_redis_shards": _REDIS,
        "redis_max_clients": _REDIS,
        "redis_protected_mode": _REDIS,
        "redis_max_memory": _REDIS,
        "redis_password": _REDIS,
        "_redis_max_memory": _REDIS,
        "_redis_password": _REDIS,
        "_redis_username": _REDIS,
        "plasma_directory": _PATHS,
        "huge_pages": _ignored("the store uses what the system gives it"),
        "temp_dir": _PATHS,
        "plasma_store_socket_name": _PATHS,
        "raylet_socket_name": _PATHS,
        "_plasma_directory": _PATHS,
        "_temp_dir": _PATHS,
        "node_ip_address": _ignored("the session is on this machine"),
        "_node_ip_address": _ignored("the session is on this machine"),
        "_node_name": _ignored("the session is on this machine"),
        "object_id_seed": _ignored("ids are always random"),
        "use_raylet": _ignored("there is one kind of node manager"),
        "redirect_output": _ignored("log_to_driver says whether the driver shows what workers print"),
        "redirect_worker_output": _ignored("log_to_driver says whether the driver shows what workers print"),
        "driver_object_store_memory": _ignored("the store is shared by all and makes room by itself"),
        "lru_evict": _ignored("the store makes room by itself"),
        "use_pickle": _ignored("values are pickled"),
        "load_code_from_local": _ignored("functions and classes travel by value where their module cannot be imported"),
        "enable_object_reconstruction": _ignored("tasks are run again when their results are lost with a worker"),
        "_enable_object_reconstruction": _ignored("tasks are run again when their results are lost with a worker"),
        "_metrics_export_port": _ignored("there are no metrics over HTTP; observers see events"),
        "_memory": _alias("memory"),
        "driver_id": _ignored("each session has a random id"),
        "job_id": _ignored("each session has a random id"),
        "driver_mode": _absent("local_mode=True runs everything in this process."),
        "job_config": _absent("namespace= is an option of ray.init() itself."),
        "labels": _RESOURCES,
        "storage": _absent(),
        "allow_multiple": _absent("A process has one session."),
        "enable_resource_isolation": _absent(),
        "cgroup_path": _absent(),
        "system_reserved_cpu": _absent("num_cpus= says how many processors tasks may use."),
        "system_reserved_memory": _absent("memory= and object_store_memory= say how much tasks may use."),
        "_system_config": _absent("options={part: {option: value}} sets options of the parts."),
        "_internal_config": _absent("options={part: {option: value}} sets options of the parts."),
        "_tracing_startup_hook": _absent("observers= names plugins that watch."),
    },
    "runtime_env": {
        **dict.fromkeys(("pip", "uv", "conda"), _PACKAGES),
        "py_modules": _absent("Put the modules into the directory that working_dir names."),
        "excludes": _absent("Name what is not to be sent in a file .rayignore in the directory."),
        "py_executable": _absent("Workers run the Python of their node."),
        **dict.fromkeys(("container", "image_uri"), _absent("Start the nodes in containers.")),
        "worker_process_setup_hook": _absent("Call the function in the tasks, or in a module that they import."),
        **dict.fromkeys(("nsight", "rocprof_sys", "mpi"), _absent("Start such a program in the task.")),
        **dict.fromkeys(("config", "_validate"), _absent()),
        "java_jars": _absent("Tasks are Python."),
    },
    "a remote function": {
        **_EVERY_OPTION,
        "num_return_vals": _alias("num_returns"),
        "_generator_backpressure_num_objects": _ignored("a stream waits for its consumer by itself"),
        "isolate_process": _absent("max_calls=1 gives each call a process of its own."),
    },
    "an actor class": {
        **_EVERY_OPTION,
        "max_reconstructions": _alias("max_restarts"),
        "is_direct_call": _ignored("all calls are direct"),
        "is_asyncio": _ignored("a class with an 'async def' method runs on an event loop"),
        "max_pending_calls": _absent("Calls are queued without a limit; wait for earlier ones before you submit more."),
        "allow_out_of_order_execution": _absent("max_concurrency= lets calls overlap."),
        "checkpoint_interval": _absent("Save the state in a method of your own, and load it in __init__."),
        "enable_tensor_transport": _absent("Arrays travel through the object store without a copy."),
    },
    "num_returns": {
        "dynamic": _absent(
            "num_returns='streaming' gives the refs of what a task yields, each as soon as it is there."
        ),
    },
    "an actor method": {
        "num_return_vals": _alias("num_returns"),
        "enable_task_events": _EVERY_OPTION["enable_task_events"],
        "_generator_backpressure_num_objects": _ignored("a stream waits for its consumer by itself"),
        "retry_exceptions": _absent("max_task_retries= is about deaths; catch exceptions in the method."),
        "tensor_transport": _absent("Arrays travel through the object store without a copy."),
    },
    "ray.get": {
        "object_ids": _alias("object_refs"),
        "worker": _ignored("a process has one session"),
        "_use_object_store": _absent(),
        "_tensor_transport": _absent("Arrays travel through the object store without a copy."),
    },
    "ray.put": {
        "worker": _ignored("a process has one session"),
        "weakref": _ignored("the object lives as long as a reference to it"),
        "_owner": _absent("An object belongs to the process that puts it; have an actor put it."),
        "_tensor_transport": _absent("Arrays travel through the object store without a copy."),
    },
    "ray.wait": {
        "object_ids": _alias("object_refs"),
        "worker": _ignored("a process has one session"),
    },
    "ray": {
        "errors": _alias("error_info"),
        "data": _LIBRARY,
        "train": _LIBRARY,
        "tune": _LIBRARY,
        "serve": _LIBRARY,
        "rllib": _LIBRARY,
        "air": _LIBRARY,
        "llm": _LIBRARY,
        "workflow": _LIBRARY,
        "autoscaler": _absent(),
        "dag": _absent("Give references as arguments: f.remote(g.remote(1))."),
        "client": _NO_CLUSTER,
        "ClientBuilder": _NO_CLUSTER,
        "timeline": _absent("observers= names plugins that see each task, its times and its worker."),
        "object_transfer_timeline": _absent("observers= names plugins that see each task."),
        "profile": _absent("Use any profiler inside the task; observers= names plugins that see each task."),
        "profiling": _absent("Use any profiler inside the task; observers= names plugins that see each task."),
        "get_dashboard_url": _absent("There is no dashboard."),
        "get_webui_url": _absent("There is no dashboard."),
        "show_in_dashboard": _absent("There is no dashboard."),
        "global_state": _QUESTIONS,
        "state": _QUESTIONS,
        "tasks": _QUESTIONS,
        "actors": _QUESTIONS,
        "objects": _QUESTIONS,
        "jobs": _QUESTIONS,
        "job_config": _absent("namespace= is an option of ray.init()."),
        "job_submission": _absent("Run the program itself."),
        "JobConfig": _absent("namespace= is an option of ray.init()."),
        "runtime_env": _ENVIRONMENT,
        "get_resource_ids": _absent("ray.get_gpu_ids() and ray.get_runtime_context().resources say what a task holds."),
        "register_custom_serializer": _absent(
            "Give the class a __reduce__, or write a plugin with the serializers hook."
        ),
        "connect": _absent("ray.init() connects."),
        "disconnect": _absent("ray.shutdown() disconnects."),
        "internal": _absent(),
        "channel": _absent("Streaming tasks (num_returns='streaming') send one value after the other."),
        "cross_language": _absent("Tasks are Python."),
        "Language": _absent("Tasks are Python."),
        "java_function": _absent("Tasks are Python."),
        "java_actor_class": _absent("Tasks are Python."),
        "cpp_function": _absent("Tasks are Python."),
        "LOCAL_MODE": _absent("ray.init(local_mode=True)"),
        "SCRIPT_MODE": _absent("ray.get_runtime_context().is_worker tells a driver from a worker."),
        "WORKER_MODE": _absent("ray.get_runtime_context().is_worker tells a driver from a worker."),
        "PYTHON_MODE": _absent("ray.init(local_mode=True)"),
        **dict.fromkeys(
            ("ActorClassID", "ActorID", "DriverID", "FunctionID", "JobID", "NodeID", "PlacementGroupID", "TaskID"), _IDS
        ),
        **dict.fromkeys(("UniqueID", "WorkerID"), _IDS),
    },
    "ray.worker": {
        "global_state": _QUESTIONS,
        "get_resource_ids": _absent("ray.get_gpu_ids() and ray.get_runtime_context().resources say what a task holds."),
        "log_to_driver": _absent("log_to_driver= is an option of ray.init()."),
        "print_logs": _absent("log_to_driver= is an option of ray.init()."),
    },
    "ray.experimental": {
        "set_resource": _absent("Resources are given to ray.init()."),
        "tqdm_ray": _absent("tqdm itself: the driver draws the bars of tasks."),
        "state": _QUESTIONS,
        "internal_kv": _absent("Keep shared state in a named actor."),
        "channel": _absent("Streaming tasks (num_returns='streaming') send one value after the other."),
    },
    "ray.util": {
        **dict.fromkeys(
            (
                "placement_group",
                "get_placement_group",
                "get_current_placement_group",
                "placement_group_table",
                "remove_placement_group",
            ),
            _PLACEMENT,
        ),
        "state": _QUESTIONS,
        "list_named_actors": _QUESTIONS,
        "metrics": _absent("observers= names plugins that see each task, its times and its worker."),
        "tracing": _absent("observers= names plugins that see each task, its times and its worker."),
        "collective": _absent("Install such a library apart."),
        "accelerators": _RESOURCES,
        "connect": _NO_CLUSTER,
        "disconnect": _absent("ray.shutdown() disconnects."),
        "client": _NO_CLUSTER,
    },
    "ray.get_runtime_context()": {
        "runtime_env": _ENVIRONMENT,
        "get_runtime_env_string": _ENVIRONMENT,
        "current_placement_group_id": _PLACEMENT,
        "get_placement_group_id": _PLACEMENT,
        "should_capture_child_tasks_in_placement_group": _PLACEMENT,
        "gcs_address": _absent("ray.init() returns the addresses of the session."),
        "get_resource_ids": _absent("get_gpu_ids() and resources say what a task holds."),
    },
    "what ray.init() returns": {
        "dashboard_url": _absent("There is no dashboard."),
        "python_version": _absent("ray.show_versions() prints the versions."),
        "ray_version": _absent("ray.__version__"),
        "ray_commit": _absent("ray.__version__"),
    },
    "a remote function or method": {
        "bind": _absent("Give references as arguments: f.remote(g.remote(1))."),
    },
    "ray.exceptions": {
        "ActorDiedError": _alias("RayActorError"),
        "ActorUnavailableError": _alias("RayActorError"),
        "LocalRayletDiedError": _alias("NodeDiedError"),
        "ObjectFetchTimedOutError": _alias("ObjectLostError"),
        "ObjectFreedError": _alias("ObjectLostError"),
        "ObjectReconstructionFailedError": _alias("ObjectLostError"),
        "ObjectReconstructionFailedLineageEvictedError": _alias("ObjectLostError"),
        "ObjectReconstructionFailedMaxAttemptsExceededError": _alias("ObjectLostError"),
        "ReferenceCountingAssertionError": _alias("ObjectLostError"),
        "PendingCallsLimitExceeded": _alias("BackPressureError"),
        "PlasmaObjectNotAvailable": _alias("ObjectLostError"),
        "UserCodeException": _alias("RayTaskError"),
        "RayGetError": _alias("RayTaskError"),
        "RayGetArgumentError": _alias("RayTaskError"),
        "RayTimeoutError": _alias("GetTimeoutError"),
        "RayWorkerError": _alias("WorkerCrashedError"),
        "RayCancellationError": _alias("TaskCancelledError"),
        "RayletError": _alias("RaySystemError"),
        "UnreconstructableError": _alias("ObjectLostError"),
        "ActorAlreadyExistsError": _absent("A name that is taken is a ValueError."),
        "ActorHandleNotFoundError": _absent("ray.get_actor() of a name that nobody has is a ValueError."),
        "ActorPlacementGroupRemoved": _NO_EXCEPTION,
        "TaskPlacementGroupRemoved": _NO_EXCEPTION,
        "AsyncioActorExit": _absent("ray.actor.exit_actor() ends an actor."),
        "AuthenticationError": _NO_EXCEPTION,
        "CrossLanguageError": _NO_EXCEPTION,
        "OufOfBandObjectRefSerializationException": _NO_EXCEPTION,
        "RayChannelError": _NO_EXCEPTION,
        "RayChannelTimeoutError": _NO_EXCEPTION,
        "RayCgraphCapacityExceeded": _NO_EXCEPTION,
        "RayDirectTransportError": _NO_EXCEPTION,
        "UnserializableException": _NO_EXCEPTION,
    },
    "the command 'ray'": {
        **dict.fromkeys(("list", "get", "summary", "logs"), _COMMANDS),
        **dict.fromkeys(("stack", "timeline", "top", "debug", "dashboard"), _COMMANDS),
        **dict.fromkeys(("up", "down", "submit", "job", "attach", "exec", "run"), _NO_LAUNCHER),
        "keys": _absent("Each life of a cluster has new keys: 'ray stop', 'ray start --head', and copy the key file."),
        "drain": _absent(
            "'ray stop' on its machine ends a node; tasks run again elsewhere if their max_retries allows."
        ),
        "redis": _absent("The page on the Redis control store has the line for the server's administrator."),
    },
}

#: What describes the machine among the ignored options of ``ray.init``: not to be given with an address.
START_UP = frozenset(
    name
    for name, found in NAMES["ray.init"].items()
    if found in (_PATHS, _REDIS) or name in ("num_workers", "huge_pages")
)

_hinted: set[tuple[str, str]] = set()


def find(place: str, name: str) -> Name | None:
    """What is known of a name that ``place`` does not have."""
    return NAMES.get(place, {}).get(name)


def sentence(place: str, name: str) -> str:
    """The end of a sentence that refuses ``name``: empty, or it starts with a space."""
    found = find(place, name)
    if found is None:
        return ""
    if found.kind == ALIAS:
        return f" It is {found.text!r} here."
    return f" It is not in this release. {found.text}".rstrip()


def settle(place: str, given: Mapping[str, Any], *, quiet: bool = False) -> dict[str, Any]:
    """Keywords with their names here, and without those that do no harm.

    Each of those logs one hint per process, unless ``quiet``.
    A name that is absent, or not known at all, is kept for the caller, which refuses it, unless its value is None,
    the default of each.

    Raises:
        ValueError: both names of one keyword.
    """
    settled: dict[str, Any] = {}
    for name, value in given.items():
        found = find(place, name)
        if found is None:
            settled.setdefault(name, value)
        elif value is None:
            continue
        elif found.kind == ALIAS:
            if given.get(found.text) is not None:
                both = f"{name}={value!r} and {found.text}={given[found.text]!r}"
                raise ValueError(f"{both} are the same option: give one of them.")
            settled[found.text] = value
        elif found.kind == ABSENT:
            settled[name] = value
        elif not quiet:
            hint(place, name)
    return settled


def hint(place: str, name: str) -> None:
    """Log, once per process, that ``name`` is accepted and changes nothing."""
    if (place, name) not in _hinted:
        _hinted.add((place, name))
        import logging  # Only on the way to a hint.

        logging.getLogger("ray").warning("%s= of %s is ignored: %s.", name, place, NAMES[place][name].text)
