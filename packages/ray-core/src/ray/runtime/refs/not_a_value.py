"""What a reference says to code that takes it for the value that it stands for.

There is no ``__iter__``, so that a reference stays no iterable for code that asks (``isinstance``, pandas): Python asks
``__getitem__`` where it unpacks or iterates. The methods are set by name, so that type checkers go on to see none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

_BINARY = {
    "add": "+", "sub": "-", "mul": "*", "matmul": "@", "truediv": "/", "floordiv": "//", "mod": "%",
    "pow": "**", "divmod": "divmod()", "lshift": "<<", "rshift": ">>", "and": "&", "or": "|", "xor": "^",
}  # fmt: skip
_COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_UNARY = {"neg": "-", "pos": "+", "abs": "abs()", "invert": "~", "round": "round()"}
_NUMBERS = {"int": "int()", "float": "float()", "complex": "complex()"}


#: What code looks for that wants the value itself.
_GETTING = frozenset({"get", "compute", "value", "wait", "fetch", "item"})
#: What code most often looks for that takes a reference for the value: of lists, dictionaries, text and arrays.
_VALUES = frozenset(
    {
        "append",
        "extend",
        "items",
        "keys",
        "values",
        "split",
        "strip",
        "upper",
        "shape",
        "dtype",
        "mean",
        "sum",
        "tolist",
    }
)


class NotAFutureError(TypeError, AttributeError):
    """An attribute that only futures of ``concurrent.futures`` have; code that merely looks for it finds none."""


class NotAValue:
    """Base of references: operations of values raise a TypeError that names ``ray.get``."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return True

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self)} - _GETTING - _VALUES)

    @property
    def _condition(self) -> NoReturn:
        raise NotAFutureError(
            f"{self!r} is no future of concurrent.futures: give its wait() and as_completed() [ref.future() for ref in "
            "refs], or use ray.wait(refs)."
        )

    def __format__(self, spec: str) -> str:
        if spec:
            raise TypeError(
                f"{self!r} is a reference to a value that may not exist yet, not the value: it cannot be formatted as "
                f"{spec!r}. ray.get(ref) gives the value, as in format(ray.get(ref), {spec!r})."
            )
        return str(self)


class _OfTheValue:
    """An attribute that values have and references have not; code that only looks for it finds none.

    One for each name, as a ``__getattr__`` of the class would slow down every attribute that there is.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, ref: Any, kind: type) -> NoReturn:
        name = self._name
        text = f"{kind.__name__!r} object has no attribute {name!r}"
        if ref is None:
            raise AttributeError(text.replace("object", "class"), name=name, obj=kind)
        instead = "" if name in _GETTING else f".{name}"
        raise AttributeError(
            f"{text}: it is a reference to a value that may not exist yet, not the value. ray.get(ref) gives the "
            f"value, as in ray.get(ref){instead}.",
            name=name,
            obj=ref,
        )


def _refusing(text: str) -> Callable[..., NoReturn]:
    def refuse(self: NotAValue, *operands: Any) -> NoReturn:
        raise TypeError(f"{self!r} is a reference to a value that may not exist yet, not the value: {text}")

    return refuse


def _refuse() -> None:
    get = "ray.get(ref) gives the value"
    several = f"it cannot be indexed, unpacked or iterated over. {get}; for several results, as in a, b = f.remote(),"
    texts = {
        "getitem": f'{several} give the task num_returns=2, and to iterate over them num_returns="streaming".',
        "setitem": f"it cannot be changed. {get}, of which a changed copy can be put.",
        "delitem": f"it cannot be changed. {get}, of which a changed copy can be put.",
        "len": f"it has no length. {get}, as in len(ray.get(ref)).",
        "enter": f"it cannot be used in 'with'. {get}, as in with ray.get(ref) as ….",
        "exit": f"it cannot be used in 'with'. {get}, as in with ray.get(ref) as ….",
    }
    for name, sign in _BINARY.items():
        texts[name] = f"it cannot be used with {sign}. {get}, as in ray.get(ref) {sign} 1, or sum(ray.get(refs))."
    for name, sign in _COMPARISONS.items():
        texts[name] = f"it cannot be compared with {sign}. {get}, as in ray.get(ref) {sign} 1, or max(ray.get(refs))."
    texts["divmod"] = f"it cannot be used with divmod(). {get}."
    texts |= {f"r{name}": texts[name] for name in _BINARY}
    for name, sign in _UNARY.items():
        texts[name] = f"it cannot be used with {sign}. {get}."
    for name, call in _NUMBERS.items():
        texts[name] = f"it cannot be used in {call}. {get}, as in {call[:-1]}ray.get(ref))."
    texts["index"] = f"it cannot be used where Python needs an int. {get}, as in range(ray.get(ref))."
    for name, text in texts.items():
        setattr(NotAValue, f"__{name}__", _refusing(text))
    for name in (*_GETTING, *_VALUES):
        setattr(NotAValue, name, _OfTheValue(name))


_refuse()
