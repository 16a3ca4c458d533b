"""Questions about the session, and the names of the package."""

import subprocess
import sys

import pytest

import ray


def test_context_of_the_driver(ray_session, mode):
    context = ray.get_runtime_context()
    assert context.session_id
    assert context.node_id
    assert (context.task_id, context.actor_id, context.attempt, context.is_worker) == (None, None, 0, False)
    assert context.local_mode == (mode == "local_mode")
    assert context.namespace
    assert context.gpu_ids == []


def test_context_of_tasks_and_actors(ray_session):
    @ray.remote(num_cpus=2, resources={"disk": 0.5})
    def task():
        return ray.get_runtime_context()

    @ray.remote
    class A:
        def context(self):
            return ray.get_runtime_context()

    ref = task.remote()
    context = ray.get(ref)
    assert context.task_id == ref.task_id().hex()
    assert context.actor_id is None
    assert context.resources == {"CPU": 2.0, "disk": 0.5}
    assert context.job_id == ray.get_runtime_context().job_id
    actor = A.remote()
    context = ray.get(actor.context.remote())
    assert context.actor_id == actor._core.actor_id.hex()
    assert context.task_id


def test_resources(ray_session):
    totals = ray.cluster_resources()
    assert (totals["CPU"], totals["disk"]) == (4.0, 2.0)
    assert totals["memory"] > 0

    @ray.remote(num_cpus=3, resources={"disk": 2})
    def free():
        return ray.available_resources()

    inside = ray.get(free.remote())
    assert inside.get("CPU", 0) == 1.0
    assert inside.get("disk", 0) == 0


def test_nodes(ray_session):
    (node,) = ray.nodes()
    assert node["Alive"]
    assert node["NodeID"] == ray.get_runtime_context().node_id
    assert node["Resources"]["CPU"] == 4.0


def test_gpus(mode, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    @ray.remote(num_gpus=1)
    def one():
        return ray.get_gpu_ids()

    @ray.remote(num_gpus=2)
    def both():
        return ray.get_gpu_ids()

    with ray.init(local_mode=mode == "local_mode", num_cpus=2, num_gpus=2):
        assert ray.get_gpu_ids() == []
        assert ray.get(one.remote())[0] in (0, 1)
        assert sorted(ray.get(both.remote())) == [0, 1]


def test_show_versions(capsys):
    ray.show_versions()
    shown = capsys.readouterr().out
    assert f"ray-core    {ray.__version__}" in shown
    assert "msgspec" in shown


def test_every_public_name_exists():
    for name in ray.__all__:
        assert getattr(ray, name) is not None
    assert set(ray.__all__) == set(dir(ray))


def test_unknown_names():
    with pytest.raises(AttributeError, match=r"no attribute 'waitt'. Did you mean 'wait'"):
        ray.waitt  # noqa: B018
    with pytest.raises(ImportError):
        from ray import waitt  # noqa: F401


def test_importing_the_package_loads_no_runtime():
    program = "import sys, ray, ray.ids; print([m for m in sys.modules if m.startswith(('ray.api', 'ray.runtime'))])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_older_import_paths():
    from ray.actor import ActorClass, ActorHandle, exit_actor
    from ray.worker import RayConnectionError, RayGetError

    assert (ActorClass, ActorHandle) == (ray.ActorClass, ray.ActorHandle)
    assert exit_actor is ray.exit_actor
    assert RayGetError is ray.exceptions.RayTaskError
    assert RayConnectionError is ray.exceptions.RayConnectionError


@pytest.mark.parametrize("name", ["async_api", "plasma_eventloop"])
def test_facades_without_their_package(name, monkeypatch):
    monkeypatch.setattr("ray.experimental.entry_points", lambda **_: ())
    ray.experimental.implementation.cache_clear()
    module = getattr(ray.experimental, name)
    with pytest.raises(ImportError, match=r"pip install .*async") as caught:
        module.get  # noqa: B018
    assert isinstance(caught.value, ray.exceptions.PluginNotInstalledError)
    with pytest.raises(AttributeError):
        module.__wrapped__  # noqa: B018
    ray.experimental.implementation.cache_clear()


@pytest.mark.parametrize("name", ["async_api", "plasma_eventloop"])
def test_facades_read_through(name, monkeypatch):
    class Offer:
        def load(self):
            return type("module", (), {"answer": 42})

    monkeypatch.setattr("ray.experimental.entry_points", lambda **_: (Offer(),))
    ray.experimental.implementation.cache_clear()
    module = getattr(ray.experimental, name)
    assert module.answer == 42
    assert "answer" in dir(module)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        ray.experimental.nope  # noqa: B018
    ray.experimental.implementation.cache_clear()
