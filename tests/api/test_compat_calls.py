"""Calls of other releases: collections of references, questions about where code runs, actors found or made."""

from __future__ import annotations

import threading
import time

import pytest
from tests import sessions

import ray

kept_session = sessions.kept()
mode = sessions.one_after_the_other()


pytestmark = pytest.mark.usefixtures("ray_session")


@ray.remote
def double(x):
    return 2 * x


@ray.remote
def fail():
    raise KeyError("k")


# --- ray.experimental.get and wait ---


def test_get_of_collections():
    np = pytest.importorskip("numpy")
    refs = [double.remote(i) for i in range(6)]
    values = [0, 2, 4, 6, 8, 10]
    array = np.array(refs, dtype=object)
    get = ray.experimental.get
    assert get(refs[1]) == 2
    assert get(refs) == get(tuple(refs)) == get(np.array(refs)) == get(array) == values
    assert sorted(get(set(refs))) == values
    assert get(array.reshape(2, 3)) == [values[:3], values[3:]]
    assert get({"a": refs[1], "b": 5, "c": refs[1]}) == {"a": 2, "b": 5, "c": 2}
    assert get({}) == {}
    assert get(()) == get([]) == []
    with pytest.raises(ValueError, match="object ref"):
        get(3)
    with pytest.raises(TypeError, match="element 1"):
        get((refs[0], 3))
    with pytest.raises(KeyError):
        get({"a": refs[0], "b": fail.remote()})


def test_wait_of_collections():
    np = pytest.importorskip("numpy")
    refs = [double.remote(i) for i in range(3)]
    ray.get(refs)
    for given in (refs, tuple(refs), np.array(refs, dtype=object)):
        assert ray.experimental.wait(given, num_returns=2, timeout=10_000) == (refs[:2], refs[2:])
    ready, rest = ray.experimental.wait(set(refs), num_returns=3)
    assert (set(ready), rest) == (set(refs), [])
    with pytest.raises(TypeError, match="list of object refs"):
        ray.experimental.wait(refs[0])


# --- where code runs ---


@ray.remote
class Asked:
    def __init__(self):
        self.restarted = ray.get_runtime_context().was_current_actor_reconstructed

    def facts(self):
        context = ray.runtime_context.get_runtime_context()
        return {
            "actor": context.get_actor_id(),
            "name": context.get_actor_name(),
            "task": context.get_task_id(),
            "task_name": context.get_task_name(),
            "ids": [context.get_job_id(), context.get_node_id(), context.get_worker_id()],
            "restarted": (self.restarted, context.was_current_actor_reconstructed),
            "resources": context.get_assigned_resources(),
            "accelerators": context.get_accelerator_ids(),
        }

    def me(self):
        return [ray.get_runtime_context().current_actor]

    def add(self, n):
        return n + 1


@ray.remote
def task_facts():
    context = ray.get_runtime_context()
    return context.get_task_id(), context.get_task_name(), context.get_task_function_name(), context.get_actor_id()


def test_questions_about_a_task_and_the_driver():
    ref = task_facts.remote()
    task_id, name, function, actor = ray.get(ref)
    assert task_id == ref.task_id().hex()
    assert (name, function, actor) == ("task_facts", "task_facts", None)
    assert ray.get(task_facts.options(name="named").remote())[1] == "named"
    context = ray.get_runtime_context()
    assert isinstance(context, ray.runtime_context.RuntimeContext)
    assert (context.get_task_id(), context.get_task_name(), context.get_actor_id()) == (None, None, None)
    assert all(bytes.fromhex(each) for each in (context.get_job_id(), context.get_node_id(), context.get_worker_id()))
    for name in ("current_actor", "was_current_actor_reconstructed"):
        with pytest.raises(RuntimeError, match="outside of an actor"):
            getattr(context, name)
    with pytest.raises(AttributeError, match="not in this release"):
        _ = context.runtime_env


def test_questions_about_an_actor():
    actor = Asked.options(name="asked", num_cpus=1).remote()
    facts = ray.get(actor.facts.remote())
    assert facts["actor"] in repr(actor)
    assert facts["name"] == "asked"
    assert facts["task_name"] == "Asked.facts"
    assert facts["restarted"] == (False, False)
    assert facts["resources"] == {"CPU": 1}
    assert facts["accelerators"] == {"GPU": []}
    assert facts["ids"][0] == ray.get_runtime_context().get_job_id()


def test_an_actor_that_was_restarted_knows():
    actor = Asked.options(max_restarts=1).remote()
    ray.get(actor.facts.remote())
    ray.kill(actor, no_restart=False)
    assert ray.get(actor.facts.remote())["restarted"] == (True, True)


def test_an_actor_has_a_handle_on_itself():
    actor = Asked.remote()
    (me,) = ray.get(actor.me.remote())
    assert me == actor
    assert ray.get(me.add.remote(1)) == 2
    del actor  # the other handle keeps it
    assert ray.get(me.add.remote(2)) == 3


def test_an_actor_gives_its_handle_to_a_task():
    @ray.remote
    class Async:
        async def add(self, n):
            return n + 1

        async def through_myself(self):
            return await use.remote(ray.get_runtime_context().current_actor)

    @ray.remote
    def use(actor):
        return ray.get(actor.add.remote(4))

    assert ray.get(Async.remote().through_myself.remote()) == 5


# --- actors found or made ---


@ray.remote
class Named:
    def __init__(self, value):
        self.value = value

    def get(self):
        return self.value


def test_get_if_exists():
    maker = Named.options(name="one", get_if_exists=True)
    first, second = maker.remote(1), maker.remote(2)
    assert first == second == ray.get_actor("one")
    assert ray.get(second.get.remote()) == 1
    ray.kill(first)
    del first, second
    assert ray.get(maker.remote(3).get.remote()) == 3
    other = Named.options(name="one", namespace="other", get_if_exists=True).remote(4)
    assert ray.get(other.get.remote()) == 4
    assert ray.get(Named.options(name="two", get_if_exists=False).remote(5).get.remote()) == 5
    with pytest.raises(ValueError, match="needs name="):
        Named.options(get_if_exists=True)
    with pytest.raises(TypeError, match="True or False"):
        Named.options(name="x", get_if_exists=1)
    with pytest.raises(TypeError, match="missing a required argument: 'value'"):
        Named.options(name="three", get_if_exists=True).remote()


def test_get_if_exists_in_a_race():
    handles = []

    def make(index):
        handles.append(Named.options(name="raced", get_if_exists=True).remote(index))

    threads = [threading.Thread(target=make, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(handles) == 8
    assert len(set(handles)) == 1
    handles.clear()


def test_a_name_whose_handles_lie_in_objects():
    box = ray.put([Named.options(name="boxed").remote(6)])
    assert ray.get(Named.options(name="boxed", get_if_exists=True).remote(7).get.remote()) == 6
    assert ray.get(ray.get_actor("boxed").get.remote()) == 6
    (handle,) = ray.get(box)
    assert handle == ray.get_actor("boxed")
    with pytest.raises(ValueError, match="boxed"):
        Named.options(name="boxed").remote(8)
    del handle, box
    until = time.monotonic() + 30
    while True:  # the last handle ends it
        try:
            ray.get_actor("boxed")
        except ValueError:
            break
        assert time.monotonic() < until
        time.sleep(0.01)


def test_get_if_exists_with_an_argument_that_failed():
    with pytest.raises(KeyError):
        ray.get(Named.options(name="broken", get_if_exists=True).remote(fail.remote()).get.remote())


# --- errors ---


def test_as_instanceof_cause():
    with pytest.raises(KeyError) as raised:
        ray.get(fail.remote())
    error = raised.value
    assert isinstance(error, ray.exceptions.RayTaskError)
    assert error.as_instanceof_cause() is error
    made = ray.exceptions.RayTaskError("f", "Traceback", ValueError("v"))
    both = made.as_instanceof_cause()
    assert isinstance(both, ValueError)
    assert isinstance(both, ray.exceptions.RayTaskError)
    assert both.cause is made.cause
    plain = ray.exceptions.RayTaskError("f", "Traceback")
    assert plain.as_instanceof_cause() is plain


# --- modules ---


def test_modules_of_other_releases(mode):
    import ray.cloudpickle as pickle
    from ray.worker import global_worker

    ref = double.remote(2)
    assert ray.get(pickle.loads(pickle.dumps([ref]))) == [4]
    assert pickle.loads(ray.cloudpickle.dumps(lambda x: x + 1))(1) == 2
    assert ray.cloudpickle.CloudPickler is not None
    assert global_worker is ray.worker.global_worker
    assert global_worker.connected
    assert global_worker.mode == (ray.worker.LOCAL_MODE if mode == "local_mode" else ray.worker.SCRIPT_MODE)
    assert global_worker.worker_id.hex() == ray.get_runtime_context().worker_id
    assert global_worker.node_ip_address
    assert ray.get(ref, worker=global_worker) == ray.worker.get(ref) == 4
    ray.shutdown()
    assert not global_worker.connected
    assert global_worker.mode is None
    with pytest.raises(ray.exceptions.RayConnectionError):
        global_worker.check_connected()
    with pytest.raises(AttributeError, match="not in this release"):
        _ = ray.worker.global_state
    with ray.init(local_mode=mode == "local_mode", num_cpus=1):
        pass
