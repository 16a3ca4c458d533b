"""What ``help(a.m)``, ``a.m?`` and ``dir()`` show."""

import inspect
import pydoc

import pytest

import ray


@ray.remote
class Counter:
    """Counts."""

    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, n: int, /, *, times: int = 1) -> int:
        """Add to the value.

        Twice, if need be.
        """
        return n * times

    @staticmethod
    def double(n: int) -> int:
        """Double it."""
        return 2 * n

    @classmethod
    def make(cls, *values: int, **named: int) -> int:
        return len(values)


@ray.remote
def square(x: int, power: int = 2) -> int:
    """Square it."""
    return x**power


SIGNATURES = {
    "add": ("(n: int, /, *, times: int = 1) -> int", "(n, /, *, times=...)"),
    "double": ("(n: int) -> int", "(n)"),
    "make": ("(*values: int, **named: int) -> int", "(*args, **kwargs)"),
}


@pytest.mark.usefixtures("ray_session")
def test_methods_show_the_signature_and_the_docstring_of_the_user():
    made, found = Counter.options(name="named").remote(), ray.get_actor("named")
    for name, (known, told) in SIGNATURES.items():
        for method, expected in ((getattr(made, name), known), (getattr(found, name), told)):
            assert str(inspect.signature(method)) == expected
            assert (method.__doc__ or "").startswith(f"{name}.remote{expected}")
            assert f"{name}.remote{expected}" in pydoc.plain(pydoc.render_doc(method))
            assert method.__name__ == name
    text = pydoc.plain(pydoc.render_doc(made.add))
    assert "Add to the value." in text
    assert "Twice, if need be." in text
    assert "Double it." in (made.double.__doc__ or "")
    options = made.add.options(timeout_s=5)
    assert (options.__doc__, inspect.signature(options)) == (made.add.__doc__, inspect.signature(made.add))


def test_functions_and_classes_show_theirs():
    assert str(inspect.signature(square)) == "(x: int, power: int = 2) -> int"
    assert inspect.getdoc(square) == "Square it."
    assert str(inspect.signature(Counter)) == "(start: int = 0) -> None"
    assert inspect.getdoc(Counter) == "Counts."
    assert "One method of one actor" in (ray.ActorMethod.__doc__ or "")


def test_names_that_are_fetched_late_are_shown():
    ray_async = pytest.importorskip("ray_async")
    assert {"TaskGroup", "as_completed", "map"} <= set(dir(ray_async))
    for module in (ray, ray.experimental, ray.worker, ray.experimental.async_api):
        assert set(module.__all__) <= set(dir(module))
