"""``msgspec.Struct`` classes that travel by value.

cloudpickle makes a class without its contents and sets them afterwards. Those classes have to know their fields, and
how they are configured, when they are made.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec

_META = type(msgspec.Struct)
#: The keywords of a class of which its configuration tells.
_KEYWORDS = tuple(name for name in dir(msgspec.Struct.__struct_config__) if not name.startswith("_"))
#: What cannot be set later, or not with effect.
_FIXED = ("__annotations__", "__match_args__")


def is_struct(cls: type) -> bool:
    """Whether ``with_fields`` is for it."""
    return isinstance(cls, _META)


def with_fields(cls: Any, args: tuple[Any, ...], state: tuple[Any, Any]) -> tuple[tuple[Any, ...], tuple[Any, Any]]:
    """What cloudpickle is to make the class ``cls`` of, and what to set then, out of what it would take."""
    kind, name, bases, contents, *rest = args
    own = vars(cls).get("__annotations__", {})
    fields = cls.__struct_fields__
    defaults = dict(zip(reversed(fields), reversed(cls.__struct_defaults__), strict=False))
    renamed = {field: other for field, other in zip(fields, cls.__struct_encode_fields__, strict=True) if field in own}
    values = {field: value for field, value in defaults.items() if field in own and value is not msgspec.NODEFAULT}
    plain = {field: value for field, value in values.items() if not hasattr(value, "factory")}
    factories = {field: value.factory for field, value in values.items() if hasattr(value, "factory")}
    keywords = {word: getattr(cls.__struct_config__, word) for word in _KEYWORDS}
    keywords["rename"] = renamed
    positional = (
        fields if "__match_args__" in vars(cls) else cls.__match_args__
    )  # where it is the user's, nothing tells
    keywords["kw_only"] = any(field in own and field not in positional for field in fields)
    make = functools.partial(_make, kind, keywords, plain, factories, "__post_init__" in vars(cls))
    fixed = {word: item for word, item in state[0].items() if word in _FIXED}
    later = {word: item for word, item in state[0].items() if word not in fixed}
    return (make, name, bases, {**contents, **fixed}, *rest), (later, state[1])


def _make(
    kind: Any,
    keywords: dict[str, Any],
    plain: dict[str, Any],
    factories: dict[str, Any],
    looks: bool,
    name: str,
    bases: tuple[type, ...],
    contents: dict[str, Any],
) -> type:
    """Called by the pickle, in the place of the metaclass."""
    contents |= {field: msgspec.field(default=value) for field, value in plain.items()}
    contents |= {field: msgspec.field(default_factory=factory) for field, factory in factories.items()}
    if looks:
        contents["__post_init__"] = _post_init  # it has to be there now, and may refer to the class
    made: type = kind(name, bases, contents, **keywords)
    return made


def _post_init(self: Any) -> None:
    """Stands for the one that the class gets behind it."""
    type(self).__post_init__(self)
