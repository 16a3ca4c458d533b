"""Options of functions, classes and methods: names, values, and what they become."""

import datetime

import pytest

import ray
from ray.api.methods import actor_methods
from ray.protocol.resources import UNIT


def task(**options):
    return ray.remote(**options)(lambda: None)._options


def actor(**options):
    return ray.remote(**options)(type("A", (), {}))._ray_options


def test_defaults_of_functions():
    options = ray.remote(lambda: None)._options
    assert options.resources == {"CPU": UNIT}
    assert (options.num_returns, options.max_retries, options.max_calls) == (1, 3, 0)
    assert (options.retry_exceptions, options.timeout_s, options.priority, options.name) == (False, None, 0, None)


def test_all_options_of_functions():
    options = task(
        num_returns=2,
        num_cpus=0.5,
        num_gpus=0,
        resources={"disk": 1.5, "none": 0},
        memory=100.0,
        max_calls=7,
        max_retries=-1,
        retry_exceptions=[OSError, KeyError],
        timeout_s=datetime.timedelta(minutes=1),
        priority=-3,
        name="job",
    )
    assert options.resources == {"CPU": UNIT // 2, "disk": UNIT * 3 // 2, "memory": 100 * UNIT}
    assert (options.num_returns, options.max_calls, options.max_retries) == (2, 7, -1)
    assert options.retry_exceptions == (OSError, KeyError)
    assert (options.timeout_s, options.priority, options.name) == (60.0, -3, "job")


def test_tasks_with_gpus_get_a_fresh_process_each():
    assert task(num_gpus=0.5).max_calls == 1
    assert task(num_gpus=1, max_calls=0).max_calls == 0
    assert task(num_gpus=2).resources["GPU"] == 2 * UNIT


def test_actors_hold_nothing_unless_told():
    options = actor()
    assert (options.resources, options.placement_resources) == ({}, {"CPU": UNIT})
    for given, held in [
        ({"num_cpus": 2}, {"CPU": 2 * UNIT}),
        ({"num_cpus": 0}, {}),
        ({"num_gpus": 1}, {"CPU": UNIT, "GPU": UNIT}),
        ({"resources": {"disk": 1}}, {"CPU": UNIT, "disk": UNIT}),
    ]:
        options = actor(**given)
        assert options.resources == options.placement_resources == held


def test_all_options_of_classes():
    options = actor(
        max_concurrency=5,
        max_restarts=-1,
        max_task_retries=2,
        name="n",
        namespace="s",
        lifetime="detached",
        concurrency_groups={"io": 2},
    )
    assert (options.max_concurrency, options.max_restarts, options.max_task_retries) == (5, -1, 2)
    assert (options.name, options.namespace, options.detached) == ("n", "s", True)
    assert options.concurrency_groups == {"io": 2}
    assert actor().max_concurrency is None


def test_options_make_a_changed_copy():
    function = ray.remote(num_cpus=2, num_returns=3)(lambda: None)
    changed = function.options(num_cpus=1, num_return_vals=2)
    assert (changed._options.resources["CPU"], changed._options.num_returns) == (UNIT, 2)
    assert (function._options.resources["CPU"], function._options.num_returns) == (2 * UNIT, 3)
    assert changed._descriptor is function._descriptor
    assert function.options(num_cpus=None)._options == function._options


BAD_FOR_BOTH = [
    ({"num_cpus": -1}, ValueError, "Resource quantities must be nonnegative"),
    ({"num_cpus": "1"}, TypeError, "num_cpus must be a number, not '1'"),
    ({"num_cpus": float("inf")}, ValueError, "finite"),
    ({"num_gpus": -0.5}, ValueError, "nonnegative"),
    ({"num_gpus": 1.5}, ValueError, "num_gpus=1.5: above 1 it must be a whole number"),
    ({"resources": ["a"]}, TypeError, "resources must be a dictionary"),
    ({"resources": {"CPU": 1}}, ValueError, "use the argument num_cpus= instead"),
    ({"resources": {"GPU": 1}}, ValueError, "use the argument num_gpus= instead"),
    ({"resources": {"a": -1}}, ValueError, "nonnegative"),
    ({"resources": {"a": "1"}}, TypeError, "must be a number"),
    ({"resources": {1: 1}}, TypeError, "Resource name must be a string"),
    ({"memory": -1}, ValueError, "at least 0"),
    ({"memory": "1G"}, TypeError, "bytes"),
    ({"name": 3}, TypeError, "name must be a string, not 3"),
    ({"name": ""}, ValueError, "name cannot be an empty string"),
    ({"num_cpuss": 1}, ValueError, "'num_cpuss' is not an option of .*Did you mean 'num_cpus'"),
]
BAD_FOR_FUNCTIONS = [
    ({"num_returns": -1}, ValueError, "num_returns must be at least 0, not -1"),
    ({"num_returns": 1.0}, TypeError, "num_returns must be a whole number, not 1.0"),
    ({"num_returns": True}, TypeError, "whole number"),
    ({"num_returns": 2, "num_return_vals": 2}, ValueError, "same option: give one"),
    ({"max_retries": -2}, ValueError, "at least -1"),
    ({"max_calls": -1}, ValueError, "at least 0"),
    ({"retry_exceptions": 1}, TypeError, "True, False or a list of exception classes"),
    ({"retry_exceptions": [int]}, TypeError, "exception classes"),
    ({"timeout_s": -1}, ValueError, "nonnegative"),
    ({"timeout_s": 0}, ValueError, "greater than 0"),
    ({"timeout_s": "1"}, TypeError, "seconds"),
    ({"priority": 1.5}, TypeError, "whole number"),
    ({"max_restarts": 1}, ValueError, "max_restarts is an option of actor classes"),
    ({"lifetime": "detached"}, ValueError, "lifetime is an option of actor classes"),
]
BAD_FOR_CLASSES = [
    ({"num_returns": 1}, TypeError, "num_returns is an option of remote functions.*ray.method"),
    ({"num_return_vals": 1}, TypeError, "num_return_vals is an option of remote functions"),
    ({"max_calls": 1}, TypeError, "max_calls is an option of remote functions"),
    ({"max_retries": 1}, TypeError, "max_retries is an option of remote functions"),
    ({"max_restarts": -2}, ValueError, "at least -1"),
    ({"max_task_retries": -2, "max_restarts": 1}, ValueError, "at least -1"),
    ({"max_task_retries": 1}, ValueError, "max_task_retries=1 needs max_restarts"),
    ({"max_concurrency": 0}, ValueError, "max_concurrency must be at least 1, not 0"),
    ({"max_concurrency": 1.5}, TypeError, "whole number"),
    ({"lifetime": "forever"}, ValueError, "lifetime must be None, 'detached' or 'non_detached', not 'forever'"),
    ({"namespace": ""}, ValueError, "Namespace name cannot be an empty string"),
    ({"concurrency_groups": [1]}, TypeError, "concurrency_groups must be a dictionary"),
    ({"concurrency_groups": {"io": 0}}, ValueError, "at least 1"),
]


@pytest.mark.parametrize(("options", "error", "text"), BAD_FOR_BOTH + BAD_FOR_FUNCTIONS)
def test_bad_options_of_functions(options, error, text):
    with pytest.raises(error, match=text):
        ray.remote(**options)(lambda: None)
    with pytest.raises(error, match=text):
        ray.remote(lambda: None).options(**options)


@pytest.mark.parametrize(("options", "error", "text"), BAD_FOR_BOTH + BAD_FOR_CLASSES)
def test_bad_options_of_classes(options, error, text):
    with pytest.raises(error, match=text):
        ray.remote(**options)(type("A", (), {}))
    with pytest.raises(error, match=text):
        ray.remote(type("A", (), {})).options(**options)

    class Typed(ray.Actor):
        pass

    with pytest.raises(error, match=text):
        ray.remote(**options)(Typed)
    with pytest.raises(error, match=text):
        Typed.options(**options)


def test_an_unknown_option_is_found_before_the_target():
    with pytest.raises(ValueError, match=r"num_gpu.*Did you mean 'num_gpus'"):
        ray.remote(num_gpu=1)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"num_returns": -1}, ValueError, "at least 0"),
        ({"num_returns": 1, "num_return_vals": 1}, ValueError, "same option"),
        ({"num_cpus": 1}, ValueError, "num_cpus is an option of actor classes"),
        ({"num_return": 1}, ValueError, "Did you mean 'num_returns'"),
        ({"timeout_s": 0}, ValueError, "greater than 0"),
        ({"concurrency_group": ""}, ValueError, "empty"),
        ({"max_task_retries": -2}, ValueError, "at least -1"),
    ],
)
def test_bad_options_of_methods(options, error, text):
    with pytest.raises(error, match=text):
        ray.method(**options)


def test_method_needs_a_method():
    with pytest.raises(TypeError, match="must be put over a method, not over 3"):
        ray.method(3)
    with pytest.raises(TypeError, match="options only"):
        ray.method(len, num_returns=1)


def test_method_leaves_the_function_as_it_is():
    def m(self):
        return 1

    assert ray.method(m) is m
    assert ray.method(num_returns=2)(m) is m


@pytest.mark.parametrize("name", ["num_cpus", "max_restarts", "resources"])
def test_an_option_of_the_class_is_none_of_a_method(ray_session, name):
    actor = ray.remote(type("Actor", (), {"method": lambda self: 1})).remote()
    with pytest.raises(ValueError, match=f"{name} is an option of actor classes"):
        actor.method.options(**{name: 1})


def test_a_class_is_read_once_for_whatever_options(ray_session, monkeypatch):
    read = []
    monkeypatch.setattr("ray.api.actors.actor_methods", lambda cls: read.append(cls) or actor_methods(cls))
    made = ray.remote(type("Actor", (), {"method": lambda self: 1}))
    changed = [made.options(num_cpus=0), made.options(num_cpus=0).options(max_restarts=1), made.options(num_cpus=0)]
    assert ray.get([each.remote().method.remote() for each in changed]) == [1, 1, 1]
    assert len(read) == 1
