"""``ray.init``, ``shutdown``, ``is_initialized``."""

import importlib
import logging
import socket
import threading
from fractions import Fraction

import pytest

import ray
from ray.exceptions import RayConnectionError, UnknownPluginError
from ray.serialization import pickling


@ray.remote
def add(x, y=1):
    return x + y


def start(mode, **options):
    return ray.init(local_mode=mode == "local_mode", **options)


def test_init_returns_a_mapping_of_addresses(ray_session):
    assert ray.is_initialized()
    assert ray_session["node_ip_address"]
    assert set(ray_session) == set(ray_session.address_info)
    assert len(ray_session) == len(ray_session.address_info)
    assert "redis_address" in ray_session
    assert "RayContext(" in repr(ray_session)


def test_context_manager_ends_its_session(mode):
    with start(mode, num_cpus=1) as context:
        assert ray.is_initialized()
    assert not ray.is_initialized()
    context.disconnect()  # again: nothing


def test_context_of_an_ended_session_leaves_the_next_alone(mode):
    first = start(mode, num_cpus=1)
    ray.shutdown()
    with start(mode, num_cpus=1):
        first.disconnect()
        assert ray.is_initialized()


def test_shutdown_is_idempotent_and_allowed_before_init(mode):
    ray.shutdown()
    start(mode, num_cpus=1)
    ray.shutdown()
    ray.shutdown()
    assert not ray.is_initialized()


def test_init_twice(ray_session, caplog):
    with pytest.raises(RuntimeError, match=r"Maybe you called ray.init twice by accident"):
        ray.init()
    with pytest.raises(RuntimeError, match="ignore_reinit_error"):
        ray.init(num_cpus=3)
    with caplog.at_level(logging.INFO, "ray"):
        again = ray.init(ignore_reinit_error=True)
    assert again.address_info == ray_session.address_info
    assert "goes on" in caplog.text


def test_functions_work_in_every_later_session(mode):
    for _ in range(2):
        with start(mode, num_cpus=1):
            assert ray.get(add.remote(1)) == 2


def test_refs_and_handles_of_an_ended_session(mode):
    @ray.remote
    class A:
        def m(self):
            return 1

    with start(mode, num_cpus=1):
        ref, handle = ray.put(1), A.remote()
        assert ray.get(handle.m.remote()) == 1
    assert ref.hex()
    with pytest.raises(RayConnectionError, match=r"ray\.init"):
        ray.get(ref)
    with start(mode, num_cpus=1):
        for use in (
            lambda: ray.get(ref),
            lambda: ray.get([ref]),
            lambda: ray.wait([ref]),
            lambda: ray.cancel(ref),
            lambda: ray.put([ref]),
            lambda: add.remote([ref]),
            lambda: handle.m.remote(),
            lambda: ray.kill(handle),
        ):
            with pytest.raises(RayConnectionError):
                use()


def test_init_in_a_thread(mode):
    results = []

    def work():
        with start(mode, num_cpus=1):
            results.append(ray.get(add.remote(1)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert results == [2]


NOT_STARTED = "Ray has not been started yet. You can start Ray with 'ray.init()'."


def before_init():
    @ray.remote
    class A:
        pass

    ref = ray.ObjectRef(bytes(20))
    return {
        "get": lambda: ray.get(ref),
        "get of nonsense": lambda: ray.get(3),
        "put": lambda: ray.put(1),
        "put of a ref": lambda: ray.put(ref),
        "wait": lambda: ray.wait([ref]),
        "wait for nothing": lambda: ray.wait([]),
        "cancel": lambda: ray.cancel(ref),
        "remote function": lambda: add.remote(1),
        "remote function, bad call": lambda: add.remote(),
        "actor": lambda: A.remote(),
        "kill": lambda: ray.kill(3),
        "get_actor": lambda: ray.get_actor("a"),
        "error_info": ray.error_info,
        "nodes": ray.nodes,
        "cluster_resources": ray.cluster_resources,
        "available_resources": ray.available_resources,
        "get_gpu_ids": ray.get_gpu_ids,
        "get_runtime_context": ray.get_runtime_context,
        "exit_actor": ray.exit_actor,
    }


@pytest.mark.parametrize("call", before_init().values(), ids=before_init().keys())
def test_before_init(call):
    with pytest.raises(RayConnectionError) as caught:
        call()
    said = str(caught.value)
    assert said == NOT_STARTED or said.startswith("The session was shut down")  # a test before this one had a session
    assert isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"num_cpus": -1}, ValueError, "Resource quantities must be nonnegative.*num_cpus=-1"),
        ({"num_cpus": "2"}, TypeError, "num_cpus must be a number, not '2'"),
        ({"num_cpus": True}, TypeError, "num_cpus must be a number"),
        ({"num_cpus": float("nan")}, ValueError, "nonnegative"),
        ({"num_gpus": -1}, ValueError, "nonnegative"),
        ({"num_gpus": 1.5}, ValueError, "whole number"),
        ({"resources": [1]}, TypeError, "resources must be a dictionary"),
        ({"resources": {"CPU": 1}}, ValueError, "num_cpus="),
        ({"resources": {"GPU": 1}}, ValueError, "num_gpus="),
        ({"resources": {"memory": 1}}, ValueError, "memory="),
        ({"resources": {"a": -1}}, ValueError, "nonnegative"),
        ({"resources": {1: 1}}, TypeError, "Resource name must be a string"),
        ({"resources": {"": 1}}, ValueError, "cannot be an empty string"),
        ({"resources": {"a": 1e-9}}, ValueError, "smallest amount"),
        ({"memory": 1.5}, TypeError, "memory"),
        ({"memory": -1}, ValueError, "at least 0"),
        ({"object_store_memory": 0}, ValueError, "greater than 0"),
        ({"object_store_memory": "1GB"}, TypeError, "bytes"),
        ({"namespace": ""}, ValueError, "Namespace name cannot be an empty string"),
        ({"namespace": 3}, TypeError, "Namespace name must be a string"),
        ({"local_mode": 1}, TypeError, "local_mode must be True or False, not 1"),
        ({"log_to_driver": "yes"}, TypeError, "log_to_driver must be True or False"),
        ({"adress": "local"}, TypeError, "no option 'adress'. Did you mean 'address'"),
        ({"zzz": 1}, TypeError, "no option 'zzz'. Known: 'address', "),
        ({"num_cpu": 1}, TypeError, "no option 'num_cpu'. Did you mean 'num_cpus'"),
        ({"store": "no-such-store"}, UnknownPluginError, "no-such-store"),
        ({"redis_address": 6379}, TypeError, "must be a string"),
    ],
)
def test_bad_arguments_start_nothing(mode, options, error, text):
    with pytest.raises(error, match=text):
        start(mode, **options) if "local_mode" not in options else ray.init(**options)
    assert not ray.is_initialized()


def test_init_and_shutdown_in_a_task(ray_session, mode):
    @ray.remote
    def nested():
        try:
            ray.init(num_cpus=1)
        except RuntimeError as error:
            refused = str(error)
        if not ray.get_runtime_context().local_mode:
            ray.shutdown()  # the driver's session is not ended from here
        return refused, ray.is_initialized()

    refused, still = ray.get(nested.remote())
    assert "ray.init twice" in refused
    assert still
    assert ray.get(add.remote(1)) == 2


# --- addresses ---


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("name", ["address", "redis_address"])
def test_an_address_where_nobody_answers(name):
    with pytest.raises(RayConnectionError, match=f"No cluster answers at 127.0.0.1:.*{name}=.*ray.init"):
        ray.init(**{name: f"127.0.0.1:{free_port()}"})
    assert not ray.is_initialized()


def test_an_address_where_something_else_listens(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(RayConnectionError, match=f"There is no key file for the cluster at {address}"):
            ray.init(address=address)


def test_both_names_of_an_address():
    with pytest.raises(ValueError, match=r"address=.*redis_address=.*give one"):
        ray.init(address="127.0.0.1:6379", redis_address="127.0.0.1:6379")


@pytest.mark.parametrize(
    "address", ["localhost", "localhost:99999", "localhost:80", "localhost:x", ":6379", "", "http://localhost:6379"]
)
def test_addresses_that_are_none(address):
    with pytest.raises(ValueError, match="Invalid address port"):
        ray.init(redis_address=address)


@pytest.mark.parametrize(
    "options",
    [
        {"num_cpus": 0},
        {"num_gpus": 1},
        {"resources": {}},
        {"memory": 1},
        {"object_store_memory": 10**8},
        {"local_mode": True},
    ],
)
def test_start_up_options_with_an_address(options, monkeypatch):
    (name,) = options
    text = f"When connecting to an existing cluster .*{name} must not be provided"
    with pytest.raises(ValueError, match=text):
        ray.init(redis_address="12.345.67.89:6379", **options)
    if name != "local_mode":
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
        with pytest.raises(ValueError, match=r"RAY_ADDRESS.*must not be provided"):
            ray.init(**options)


def test_the_environment_gives_an_address(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with pytest.raises(RayConnectionError, match="RAY_ADDRESS="):
        ray.init()
    with pytest.raises(RayConnectionError, match="RAY_ADDRESS="):
        ray.init(address="auto")
    with ray.init(local_mode=True):  # local mode joins nothing
        pass


def test_auto_without_an_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_HOME", str(tmp_path))
    with pytest.raises(RayConnectionError, match="address='auto' found no cluster: there is no key file"):
        ray.init(address="auto")


def test_local_ignores_the_environment(monkeypatch, mode):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    with ray.init(address="local", num_cpus=1, local_mode=mode == "local_mode"):
        assert ray.cluster_resources()["CPU"] == 1


# --- plugins ---


WATCHER = """
import fractions
from ray.plugins import PluginInfo, hookimpl

PLUGIN = PluginInfo(seam="observer", name="watcher", api=2)
told = []

@hookimpl
def ray_plan_resolved(plan):
    told.append("plan")

@hookimpl
def ray_runtime_started(info):
    told.append(("started", info["kind"], info["session_id"]))

@hookimpl
def ray_runtime_stopping(info):
    told.append(("stopping", info["kind"], info["session_id"]))

@hookimpl
def ray_register_serializers():
    return [(fractions.Fraction, lambda value, refs: (fractions.Fraction, (value.numerator + 1, 7)))]
"""


def test_plugins_are_told_of_the_session(mode, tmp_path, monkeypatch):
    """In both modes: the plan, the start and the end; their serializers are used."""
    package = f"watching_{mode}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / "watcher.py").write_text(WATCHER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(pickling, "_REDUCERS", dict(pickling._REDUCERS))
    with start(mode, num_cpus=1, observers=[f"{package}.watcher"]):
        session = ray.get_runtime_context().session_id
        assert ray.get(ray.put([Fraction(1, 7)])) == [Fraction(2, 7)]
    told = importlib.import_module(f"{package}.watcher").told
    assert told == ["plan", ("started", "driver", session), ("stopping", "driver", session)]


def test_a_task_is_not_told_to_end_the_session():
    @ray.remote
    def again():
        with pytest.raises(RuntimeError, match="by accident") as caught:
            ray.init(num_cpus=1)
        return str(caught.value)

    with ray.init(num_cpus=1):
        text = ray.get(again.remote(), timeout=30)
    assert "in a task or actor" in text
    assert "only by the driver, after ray.shutdown()" in text
    assert "or call ray.shutdown() first" not in text
