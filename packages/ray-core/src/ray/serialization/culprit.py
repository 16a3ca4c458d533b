"""Where in a value the part is that cannot be pickled. Runs only after a failure, with a bounded number of trials."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

from ray.clock import monotonic
from ray.exceptions import UnpicklableError
from ray.exceptions.base import cause_of, is_a
from ray.serialization import decorated
from ray.serialization.render import message_of

#: Returns why a value cannot be pickled, or None if it can. Text, not the exception: that would hold on to this search,
#: and with it to the value, until the next garbage collection.
Trial = Callable[[Any], str | None]

_MAX_TRIALS = 2_000
_MAX_DEPTH = 60
_MAX_SECONDS = 2.0
_MAX_SHOWN = 80
_STREAM_IT = 'Give the task num_returns="streaming" to send what it yields one by one, or make a list of it: list(...).'
_LIST_IT = "Make a list of it: list(...)."
#: What a class has for its slots, its ``__dict__`` and its ``__weakref__``; not sent.
_MADE_ANEW = (types.GetSetDescriptorType, types.MemberDescriptorType)
#: Attribute of a class of ours whose instances cannot be pickled: what to do instead, a sentence.
ADVICE = "_instead_of_pickling"
#: What to do about values that nobody can pickle, and that have another way.
_ADVICE: dict[type, str] = {
    types.GeneratorType: _STREAM_IT,
    types.AsyncGeneratorType: 'Give the method num_returns="streaming" to send what it yields one by one.',
    types.CoroutineType: "Await it and send what it gives; only methods of actors may be async def.",
}


def unpicklable(
    value: Any, error: Exception, trial: Trial, target: Any = None, *, is_call: bool = False
) -> UnpicklableError:
    """The error to raise for ``value``, which failed with ``error``.

    Args:
        value: what was to be pickled.
        error: what the pickler raised.
        trial: tries to pickle a part.
        target: the function that was called, if known.
        is_call: ``value`` is its ``(args, kwargs)``.
    """
    search = _Search(trial)
    if is_call:
        for name, argument in _named_arguments(value[0], value[1], target):
            reason = search.failure(argument)
            if reason is not None:
                search.is_argument = True
                return search.describe(f"argument {name}", argument, reason)
    return search.describe(_root_name(value), value, reason_of(error))


def reason_of(error: Exception) -> str:
    """What a pickler's error says, in a line."""
    cause = cause_of(error)
    if is_a(error, RecursionError) or (cause is not None and is_a(cause, RecursionError)):
        return "it is nested too deeply"
    text = message_of(error)
    name = type(error).__name__
    return f"{name}: {text[:500]}" if text else name


def _named_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], target: Any) -> Iterator[tuple[str, Any]]:
    import inspect  # It takes longer to import than all else here.

    names: list[str] = []
    try:
        for parameter in inspect.signature(target).parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                names += [f"{parameter.name}[{i}]" for i in range(len(args) - len(names))]
            elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                names.append(parameter.name)
    except (TypeError, ValueError):
        pass
    for i, value in enumerate(args):
        yield repr(names[i]) if i < len(names) else f"number {i}", value
    for name, value in kwargs.items():
        yield repr(name), value


def _root_name(value: Any) -> str:
    if isinstance(value, (types.FunctionType, type)):
        return f"{'class' if isinstance(value, type) else 'function'} {value.__qualname__!r}"
    return "the value"


class _Search:
    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._trials = 0
        #: What is looked into goes along with a call, and so is no result.
        self.is_argument = False
        self._deadline = monotonic() + _MAX_SECONDS

    def failure(self, value: Any) -> str | None:
        self._trials += 1
        return self._trial(value)

    def exhausted(self) -> bool:
        return self._trials > _MAX_TRIALS or monotonic() > self._deadline

    def describe(self, root: str, value: Any, reason: str) -> UnpicklableError:
        """Follow the failing part down to the one whose own parts all pickle."""
        path = [root]
        steps, _ = self._steps(value, {id(value): value})
        if steps:
            _, value, reason = steps[-1]
        for name, _, _ in steps:
            if name.startswith((".", "[")) and len(path) > 1 and path[-1].startswith((".", "[")):
                path[-1] += name
            else:
                path.append(name)
        advice = _ADVICE.get(type(value)) or vars(type(value)).get(ADVICE, "")
        if self.is_argument and advice is _STREAM_IT:
            advice = _LIST_IT
        if not advice and _says_no_itself(value):
            advice = "Its class says so itself: leave it out, or send what it can be made from."
        where = " → ".join(_shortened(part) for part in path)
        return UnpicklableError(f"{where} → {_type_text(value)}", reason, advice)

    def _steps(self, value: Any, seen: dict[int, Any], depth: int = 0) -> tuple[list[tuple[str, Any, str]], bool]:
        """Parts from ``value`` down to the one to blame; and False where that only leads back to what was seen.

        A method that uses ``super()`` fails with its class, whatever in that is to blame.

        Args:
            value: has failed.
            seen: {id: value} of what has failed; kept, so that no id is used again.
            depth: of ``value``.
        """
        unsure: list[tuple[str, Any, str]] = []
        leads_back = False
        for name, part in parts_of(value) if depth < _MAX_DEPTH else ():
            if self.exhausted():
                break
            if type(part) in (int, float, str, bytes, bool, type(None)):
                continue
            if id(part) in seen:
                leads_back = True
                continue
            reason = self.failure(part)
            if reason is not None:
                seen[id(part)] = part
                below, sure = self._steps(part, seen, depth + 1)
                if sure:
                    return [(name, part, reason), *below], True
                unsure = unsure or [(name, part, reason), *below]
        return unsure, not leads_back and not unsure


def parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    """The named parts of a value that its pickle would hold; empty where it cannot be known."""
    try:
        within = decorated.parts(value)
        if within is not None:
            yield from within
            return
        if isinstance(value, dict):
            for key, item in list(value.items()):
                yield f"key {_short(key)}", key
                yield f"[{_short(key)}]", item
        elif isinstance(value, (list, tuple)):
            yield from ((f"[{i}]", item) for i, item in enumerate(value))
        elif isinstance(value, (set, frozenset)):
            yield from ((f"element {_short(item)}", item) for item in value)
        if isinstance(value, types.FunctionType):
            yield from _function_parts(value)
        elif isinstance(value, types.MethodType):
            yield ".__self__", value.__self__
            yield ".__func__", value.__func__
        elif isinstance(value, functools.partial):
            yield ".func", value.func
            yield from ((f".args[{i}]", item) for i, item in enumerate(value.args))
            yield from ((f".keywords[{key!r}]", item) for key, item in value.keywords.items())
        elif isinstance(value, (staticmethod, classmethod)):
            yield ".__func__", value.__func__
        elif isinstance(value, property):
            yield from ((f".{name}", getattr(value, name)) for name in ("fget", "fset", "fdel"))
        elif isinstance(value, type):
            for name, item in list(vars(value).items()):
                if type(item) not in _MADE_ANEW and name != "_abc_impl":
                    yield f".{name}", item
        elif type(value) not in (dict, list, tuple, set, frozenset):
            yield from _state_parts(value)
    except Exception:  # The user's code runs here; what it breaks only ends the search.
        return


def _function_parts(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f"closure variable {name!r}", cell.cell_contents
        except ValueError:
            continue  # Not assigned yet.
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            yield f"global variable {name!r}", function.__globals__[name]
    yield from ((f"default value {i}", item) for i, item in enumerate(function.__defaults__ or ()))
    yield from ((f"default of {name!r}", item) for name, item in (function.__kwdefaults__ or {}).items())
    yield from ((f".{name}", item) for name, item in function.__dict__.items())


def _global_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _state_parts(value: Any) -> Iterator[tuple[str, Any]]:
    reduced = value.__reduce_ex__(5)
    if not isinstance(reduced, tuple) or len(reduced) < 2:
        return
    state = reduced[2] if len(reduced) > 2 else None
    for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
        if isinstance(part, dict):
            yield from ((f".{name}", item) for name, item in part.items())
        elif part is not None:
            yield "its state", part
    yield from ((f"its constructor's argument {i}", item) for i, item in enumerate(reduced[1]))
    if len(reduced) > 3 and reduced[3] is not None and not isinstance(value, list):
        yield from ((f"[{i}]", item) for i, item in enumerate(reduced[3]))
    if len(reduced) > 4 and reduced[4] is not None and not isinstance(value, dict):
        yield from ((f"[{_short(key)}]", item) for key, item in reduced[4])


def _says_no_itself(value: Any) -> bool:
    """Whether the class has a way of its own to be pickled, which is what raises."""
    ways = ("__reduce__", "__reduce_ex__", "__getstate__")
    return any(name in vars(cls) for cls in type(value).__mro__[:-1] for name in ways if cls.__module__ != "builtins")


def _shortened(path: str) -> str:
    """A part of the way, without the middle of what goes very deep."""
    return path if len(path) <= 3 * _MAX_SHOWN else f"{path[:_MAX_SHOWN]}…{path[-_MAX_SHOWN:]}"


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def _type_text(value: Any) -> str:
    kind = type(value)
    return f"<class '{kind.__module__}.{kind.__qualname__}'>"
