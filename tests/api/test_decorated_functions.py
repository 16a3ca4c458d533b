"""What decorators of functools make of the program's functions goes to workers, with an empty cache."""

import functools
import importlib
import pickle
import subprocess
import sys
import textwrap
import threading

import cloudpickle
import pytest
from tests import sessions

import ray

nothing_left = sessions.unchecked()
pytestmark = pytest.mark.usefixtures("session")


@pytest.fixture(scope="module")
def session():
    with ray.init(num_cpus=1, log_to_driver=False):
        yield


def run(function, *args):
    return ray.get(ray.remote(function).remote(*args))


def cached(decorate, number):
    @decorate
    def double(x):
        """Doubles."""
        return 2 * x

    double.tag = number
    return double


CACHES = [functools.cache, functools.lru_cache, functools.lru_cache(maxsize=3, typed=True), functools.lru_cache(None)]


@pytest.mark.parametrize("number", range(len(CACHES)))
def test_cached_functions(number):
    double = cached(CACHES[number], number)
    double(1)

    def of(function):
        values = [function(value) for value in (4, 4, 5)]
        info, parameters = function.cache_info(), function.cache_parameters()
        return values, info.hits, info.misses, parameters, function.__name__, function.__doc__, function.tag

    expected = ([8, 8, 10], 1, 2, double.cache_parameters(), "double", "Doubles.", number)
    assert run(of, double) == expected  # as an argument
    assert run(lambda function: of(function[0]), [double]) == expected
    assert run(lambda: of(double)) == expected  # as a variable of a function
    assert double.cache_info().misses == 1
    assert of(run(lambda: double)) == expected  # as a result


def test_a_cached_function_that_calls_itself():
    @functools.cache
    def factorial(n):
        return n * factorial(n - 1) if n else 1

    def of(n):
        return (
            factorial(n),
            factorial.cache_info().currsize,
            factorial is factorial.__wrapped__.__closure__[0].cell_contents,
        )

    assert run(of, 10) == (3628800, 11, True)


def test_cached_things_that_are_no_functions():
    partly = functools.lru_cache(functools.partial(pow, 2))
    assert run(lambda: partly(10)) == 1024
    built_in = functools.cache(len)
    assert run(lambda f: f("four"), built_in) == 4


def test_importable_ones_go_by_name(tmp_path, monkeypatch):
    text = """
import functools

@functools.cache
def known(x):
    return x

@functools.singledispatch
def kinds(x):
    return x
"""
    (tmp_path / "named_helper.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("named_helper")
    for function in (module.known, module.kinds):
        assert ray.get(ray.put(function)) is function
        cloudpickle.register_pickle_by_value(module)
        try:
            sent = ray.get(ray.put(function))
        finally:
            cloudpickle.unregister_pickle_by_value(module)
        assert sent is not function
        assert sent.__module__ == "named_helper"


class Local:
    """Made by value in a test, as the module of a test need not be importable in a worker."""

    @staticmethod
    def make():
        class Decorated:
            made = 0

            @functools.lru_cache(maxsize=2)  # noqa: B019
            def cached(self, x):
                return x + 1

            @staticmethod
            @functools.cache
            def static(x):
                return x + 2

            @classmethod
            @functools.cache
            def of_class(cls, x):
                return cls.__name__, x

            @functools.cached_property
            def once(self):
                """Once."""
                self.made += 1
                return self.made

            @functools.singledispatchmethod
            def kind(self, x):
                return "object"

            @kind.register
            def _(self, x: int):
                return "int"

            @kind.register(list)
            def _(self, x):
                return "list"

            def all(self):
                text = type(self).once.__doc__
                return [self.cached(1), self.static(1), self.of_class(1), self.once, self.once, self.made, text]

            def kinds(self):
                return [self.kind(value) for value in ("", 1, [], True)]

        return Decorated


ALL = [2, 3, ("Decorated", 1), 1, 1, 1, "Once."]
KINDS = ["object", "int", "list", "int"]


def test_methods():
    cls = Local.make()
    actor = ray.remote(cls).remote()
    assert ray.get([actor.all.remote(), actor.kinds.remote()]) == [ALL, KINDS]
    assert ray.get([actor.cached.remote(4), actor.static.remote(4), actor.kind.remote(4)]) == [5, 6, "int"]
    assert run(lambda: (cls().all(), cls().kinds())) == (ALL, KINDS)  # a class that a task uses
    assert run(lambda value: (value.all(), value.kinds()), cls()) == (ALL, KINDS)  # an instance
    assert isinstance(run(lambda: cls()), cls)


def test_generic_functions():
    @functools.singledispatch
    def kind(x):
        """Kinds."""
        return "object"

    @kind.register
    def _(x: int):
        return "int"

    @kind.register(list)
    def _(x):
        return [kind(item) for item in x]

    class Own:
        pass

    kind.register(Own, lambda x: "own")
    kind.tag = "own"

    def of(function):
        return [
            function([1, "a", Own()]),
            function.tag,
            function.__name__,
            function.__doc__,
            function.dispatch(bool)(1),
        ]

    expected = [["int", "object", "own"], "own", "kind", "Kinds.", "int"]
    assert of(kind) == expected
    assert run(of, kind) == expected
    assert run(lambda: of(kind)) == expected
    assert of(run(lambda: kind)) == expected
    assert ray.get(ray.remote(kind).remote(1)) == "int"


def test_what_cannot_go_is_named():
    lock = threading.Lock()

    @functools.cache
    def locks():
        return lock

    with pytest.raises(TypeError, match=r"locks.*__wrapped__ → closure variable 'lock' → <class '_thread.lock'>"):
        run(lambda: locks())

    class Locks:
        @functools.cached_property
        def own(self):
            return lock

    with pytest.raises(TypeError, match=r"own\.func → closure variable 'lock'"):
        ray.remote(Locks).remote()

    @functools.singledispatch
    def kind(x):
        return x

    kind.register(int, lambda x: lock)
    with pytest.raises(TypeError, match=r"registry\[int\] → closure variable 'lock'"):
        run(lambda: kind(1))


def test_they_are_functions_of_the_script():
    script = """
        import functools, ray

        @functools.lru_cache
        def table(n):
            return n * table(n - 1) if n else 1

        @functools.singledispatch
        def kind(x):
            return "object"

        @kind.register
        def _(x: int):
            return "int"

        @ray.remote
        class Model:
            @functools.lru_cache
            def cached(self, x):
                return table(x)

            @functools.cached_property
            def weights(self):
                return kind(1)

            def all(self):
                return self.cached(4), self.weights, super().__repr__()[:1]

        @ray.remote
        def work(n):
            return table(n), kind(n), table.cache_info().currsize

        with ray.init(num_cpus=1):
            print(ray.get(work.remote(3)), ray.get(Model.remote().all.remote()))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout.strip() == "(6, 'int', 4) (24, 'int', '<')"


def test_ordinary_pickles_are_as_before():
    assert pickle.loads(pickle.dumps(functools.reduce)) is functools.reduce
    assert ray.get(ray.put(functools.wraps)) is functools.wraps
