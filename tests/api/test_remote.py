"""Remote functions: decoration, calls, arguments, results."""

import functools
import pickle

import cloudpickle
import pytest
from tests.api.one_session import nothing_left, session

import ray
from ray.exceptions import UnpicklableError

__all__ = ["nothing_left", "session"]


@ray.remote
def add(x, y=1, *, z=0):
    return x + y + z


@ray.remote()
def empty_parentheses():
    return "called"


@ray.remote
def gather(*args, **kwargs):
    return args, kwargs


@ray.remote
def fib(n):
    if n < 2:
        return n
    return sum(ray.get([fib.remote(n - 1), fib.remote(n - 2)]))


# --- decoration ---


def test_the_decorator_keeps_the_function():
    def documented(x):
        """What it does."""
        return x

    remote = ray.remote(documented)
    assert isinstance(remote, ray.RemoteFunction)
    assert (remote.__name__, remote.__doc__, remote._function) == ("documented", "What it does.", documented)
    assert "documented" in repr(remote)
    assert ray.get(empty_parentheses.remote()) == "called"


def test_builtins_and_partials():
    assert ray.get(ray.remote(len).remote([1, 2])) == 2
    assert ray.get(ray.remote(functools.partial(max, 3)).remote(5)) == 5


@pytest.mark.parametrize("target", [3, "f", None, [], object()])
def test_targets_that_cannot_be_remote(target):
    with pytest.raises(TypeError, match="must be applied to a function or a class, not to"):
        ray.remote(target)
    with pytest.raises(TypeError, match="must be applied to a function or a class"):
        ray.remote(num_cpus=1)(target)


def test_target_and_options_together():
    with pytest.raises(TypeError, match="mixes a target and options"):
        ray.remote(len, num_cpus=1)
    with pytest.raises(TypeError, match="several targets"):
        ray.remote(len, max)


def test_remote_twice():
    with pytest.raises(TypeError, match=r"remote already.*options"):
        ray.remote(add)


def test_async_functions_are_refused_with_the_wrapper():
    async def f():
        pass

    async def generator():
        yield 1

    with pytest.raises(ValueError, match="'async def' should not be used for remote tasks") as caught:
        ray.remote(f)
    assert "def wrapper():" in str(caught.value)
    assert "asyncio.run(f())" in str(caught.value)
    with pytest.raises(ValueError, match="async def"):
        ray.remote(num_cpus=1)(generator)


def test_direct_calls_are_refused():
    text = r"Remote functions cannot be called directly. Instead of running 'add\(\)', try 'add.remote\(\)'."
    with pytest.raises(TypeError, match=text):
        add(1)


# --- arguments ---


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "missing a required argument: 'x'"),
        ((1, 2, 3), {}, "too many positional arguments: 3 given, at most 2 accepted"),
        ((1,), {"x": 1}, "multiple values for argument 'x'"),
        ((1,), {"q": 1}, "got an unexpected keyword argument 'q'"),
        ((), {"y": 1}, "missing a required argument: 'x'"),
    ],
)
def test_arguments_that_do_not_fit(args, kwargs, text):
    with pytest.raises(TypeError, match=text) as caught:
        add.remote(*args, **kwargs)
    assert "add.remote()" in str(caught.value)
    assert "(x, y=..., *, z=...)" in str(caught.value)
    assert ray.error_info() == []


def test_arguments_that_fit():
    assert ray.get([add.remote(1), add.remote(1, 2), add.remote(x=1, z=5), add.remote(1, y=2, z=3)]) == [2, 3, 7, 6]
    assert ray.get(gather.remote(1, 2, a=3)) == ((1, 2), {"a": 3})


def test_positional_only_and_required_keywords():
    @ray.remote
    def f(a, /, b, *, c):
        return a, b, c

    assert ray.get(f.remote(1, b=2, c=3)) == (1, 2, 3)
    with pytest.raises(TypeError, match="missing a required keyword argument: 'c'"):
        f.remote(1, 2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'a'"):
        f.remote(a=1, b=2, c=3)

    @ray.remote
    def g(a, /, **kwargs):
        return a, kwargs

    assert ray.get(g.remote(1, a=2)) == (1, {"a": 2})
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        g.remote(a=2)


def test_a_wrapper_is_taken_as_written():
    def plus_one(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args, 1)

        return wrapper

    @ray.remote
    @plus_one
    def add_two(a, b):
        return a + b

    assert ray.get(add_two.remote(1)) == 2


def test_top_level_refs_become_values():
    ref = ray.put(10)
    assert ray.get(add.remote(ref, y=ref)) == 20
    assert ray.get(gather.remote(ref, 1, k=ref)) == ((10, 1), {"k": 10})
    assert ray.get(add.remote(add.remote(add.remote(1)))) == 4


def test_refs_inside_containers_stay_refs():
    @ray.remote
    def total(refs):
        return sum(ray.get(refs))

    assert ray.get(total.remote([ray.put(i) for i in range(4)])) == 6


def test_refs_through_closures():
    ref = ray.put(41)

    @ray.remote
    def f():
        return ray.get(ref) + 1

    assert ray.get(f.remote()) == 42


def test_arguments_are_copied():
    @ray.remote
    def grow(values):
        values.append(1)
        return values

    mine = []
    assert ray.get(grow.remote(mine)) == [1]
    assert mine == []


def test_unpicklable_arguments_name_the_place():
    import threading

    class Model:
        def __init__(self):
            self.lock = threading.Lock()

    with pytest.raises(UnpicklableError, match="lock") as caught:
        add.remote(1, y=Model())
    assert isinstance(caught.value, TypeError)
    assert ray.error_info() == []


def test_recursion():
    assert ray.get(fib.remote(7)) == 13


def test_early_submission_with_everything_as_arguments():
    assert ray.get(add._remote(args=(1,), kwargs={"y": 5})) == 6
    assert len(gather._remote((1, 2), num_returns=2)) == 2


def test_remote_functions_travel():
    @ray.remote
    def call(function, x):
        return ray.get(function.remote(x))

    assert ray.get(call.remote(add, 4)) == 5
    again = pickle.loads(cloudpickle.dumps(add.options(num_cpus=2)))
    assert again._options == add.options(num_cpus=2)._options
    assert ray.get(again.remote(1)) == 2


# --- results ---


@ray.remote
def give(value):
    return value


@pytest.mark.parametrize("name", ["num_returns", "num_return_vals"])
def test_several_results(name):
    two = give.options(**{name: 2})
    for value in [(1, 2), [1, 2]]:
        refs = two.remote(value)
        assert isinstance(refs, list)
        assert ray.get(refs) == [1, 2]
    decorated = ray.remote(**{name: 3})(lambda: list("abc"))
    assert ray.get(decorated.remote()) == ["a", "b", "c"]


def test_no_result():
    assert give.options(num_returns=0).remote(1) is None


def test_a_tuple_is_one_result():
    assert ray.get(give.remote((1, 2))) == (1, 2)


def test_a_generator_gives_several_results():
    @ray.remote(num_returns=2)
    def generate():
        yield 1
        yield 2

    assert ray.get(generate.remote()) == [1, 2]


def test_too_few_results():
    refs = give.options(num_returns=3).remote((1, 2))
    for ref in refs:
        with pytest.raises(ValueError, match="Task returned 2 objects, but num_returns=3"):
            ray.get(ref)


@pytest.mark.parametrize("value", [5, None, {"a": 1}])
def test_results_that_cannot_be_indexed(value):
    for ref in give.options(num_returns=2).remote(value):
        with pytest.raises(TypeError, match="num_returns=2"):
            ray.get(ref)


def test_a_returned_ref_stays_a_ref():
    @ray.remote
    def outer():
        return give.remote(7)

    inner = ray.get(outer.remote())
    assert isinstance(inner, ray.ObjectRef)
    assert ray.get(inner) == 7
