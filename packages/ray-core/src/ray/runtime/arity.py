"""How many arguments a callable takes: checked where a call is submitted, and cheap enough for every call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_POSITIONAL_OR_KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD
_VAR_POSITIONAL = inspect.Parameter.VAR_POSITIONAL
_KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY
_UNLIMITED = 1 << 30


class _Dots:
    """A default that is not known, as it is written."""

    def __repr__(self) -> str:
        return "..."


_DOTS = _Dots()


class Arity(NamedTuple):
    """The shape of a signature, in builtins only, so that it travels with an actor handle."""

    names: tuple[str, ...] = ()
    """Parameters that accept a position, in order, without ``self``."""
    positional_only: int = 0
    """How many of ``names`` refuse a keyword."""
    required: int = 0
    """How many of ``names`` have no default."""
    var_positional: bool = False
    keyword_only: tuple[str, ...] = ()
    keyword_required: tuple[str, ...] = ()
    var_keyword: bool = False

    def bounds(self) -> tuple[int, int]:
        """The least and the greatest number of arguments of a call without keywords that needs no ``check``."""
        if self.keyword_required:
            return 1, 0
        return self.required, _UNLIMITED if self.var_positional else len(self.names)

    def signature(self) -> inspect.Signature:
        """As far as it is known: defaults are shown as ``...``."""
        parameter = inspect.Parameter
        parameters = [
            parameter(
                item,
                _POSITIONAL_ONLY if at < self.positional_only else _POSITIONAL_OR_KEYWORD,
                default=parameter.empty if at < self.required else _DOTS,
            )
            for at, item in enumerate(self.names)
        ]
        if self.var_positional:
            parameters.append(parameter("args", _VAR_POSITIONAL))
        for item in self.keyword_only:
            default = parameter.empty if item in self.keyword_required else _DOTS
            parameters.append(parameter(item, _KEYWORD_ONLY, default=default))
        if self.var_keyword:
            parameters.append(parameter("kwargs", inspect.Parameter.VAR_KEYWORD))
        return inspect.Signature(parameters)

    def check(self, name: str, count: int, keywords: Collection[str]) -> None:
        """Refuse a call that Python would refuse.

        Args:
            name: the callable, for the message.
            count: the number of positional arguments.
            keywords: the names of the keyword arguments.

        Raises:
            TypeError: too many, missing, repeated or unknown arguments.
        """
        __tracebackhide__ = True
        names = self.names
        if count > len(names) and not self.var_positional:
            raise TypeError(
                f"{name}: too many positional arguments: {count} given, at most {len(names)} accepted{self._takes()}"
            )
        by_name = set(names[self.positional_only :])
        filled = set(names[:count])
        for keyword in keywords:
            if keyword in by_name and keyword in filled:
                raise TypeError(f"{name}: multiple values for argument {keyword!r}{self._takes()}")
            if keyword not in by_name and keyword not in self.keyword_only and not self.var_keyword:
                raise TypeError(f"{name}: got an unexpected keyword argument {keyword!r}{self._takes()}")
        for index, required in enumerate(names[: self.required]):
            if index >= count and (index < self.positional_only or required not in keywords):
                advice = _of_class(required)
                raise TypeError(f"{name}: missing a required argument: {required!r}{self._takes()}{advice}")
        for required in self.keyword_required:
            if required not in keywords:
                raise TypeError(f"{name}: missing a required keyword argument: {required!r}{self._takes()}")

    def _takes(self) -> str:
        shown = [item if at < self.required else f"{item}=..." for at, item in enumerate(self.names)]
        if self.positional_only:
            shown.insert(self.positional_only, "/")
        if self.var_positional:
            shown.append("*args")
        elif self.keyword_only:
            shown.append("*")
        shown += [item if item in self.keyword_required else f"{item}=..." for item in self.keyword_only]
        if self.var_keyword:
            shown.append("**kwargs")
        return f"; it takes ({', '.join(shown)})"


def _of_class(missing: str) -> str:
    """What to do where a method was made remote by itself."""
    if missing != "self":
        return ""
    return ". For a method, put @ray.remote on its class, and call it through a handle: handle = Class.remote()"


def arity_of(function: Callable[..., Any], *, bound: bool = False) -> Arity | None:
    """The arity of ``function``, or None where Python cannot tell (some builtins).

    A wrapper is taken as it is written, not as what it wraps: only what Python itself would refuse is refused.

    Args:
        function: any callable.
        bound: drop the first parameter, which the call fills in (``self`` or ``cls``).
    """
    try:
        parameters = list(inspect.signature(function, follow_wrapped=False).parameters.values())
    except (ValueError, TypeError):
        return None
    if bound and parameters and parameters[0].kind in (_POSITIONAL_ONLY, _POSITIONAL_OR_KEYWORD):
        del parameters[0]
    positional = [p for p in parameters if p.kind in (_POSITIONAL_ONLY, _POSITIONAL_OR_KEYWORD)]
    keyword_only = [p for p in parameters if p.kind is _KEYWORD_ONLY]
    return Arity(
        names=tuple(p.name for p in positional),
        positional_only=sum(p.kind is _POSITIONAL_ONLY for p in positional),
        required=sum(p.default is p.empty for p in positional),
        var_positional=any(p.kind is _VAR_POSITIONAL for p in parameters),
        keyword_only=tuple(p.name for p in keyword_only),
        keyword_required=tuple(p.name for p in keyword_only if p.default is p.empty),
        var_keyword=any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters),
    )


def constructor_arity(cls: Any) -> Arity | None:
    """The arity of ``cls(...)``; a class without a constructor of its own takes nothing."""
    if type(cls).__call__ is not type.__call__:
        return None
    if cls.__init__ is not object.__init__:
        return arity_of(cls.__init__, bound=True)
    if cls.__new__ is not object.__new__:
        return arity_of(cls.__new__, bound=True)
    return Arity()
