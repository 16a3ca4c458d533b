"""Options of remote functions, actor classes and methods: checked, completed, turned into the runtime's records."""

from __future__ import annotations

import datetime
import math
import operator
import sys
from collections.abc import Mapping
from typing import Any, SupportsFloat

from ray import later_names
from ray.api.placing import placement_of
from ray.api.typed import CallOptions, ClassOptions, FunctionOptions
from ray.config.encoding import lone_surrogate
from ray.config.spelling import did_you_mean
from ray.protocol.resources import UNIT
from ray.runtime.interface import STREAMING, ActorOptions, MethodOptions, TaskOptions

#: Whole numbers travel in 64 bits: an option lies between ``-MOST - 1`` and ``MOST``, if it has no narrower limits.
MOST = 2**63 - 1
#: Resource amounts are such numbers, in fixed point.
_MAX_AMOUNT = MOST // UNIT
#: Results of one call. Each has a reference in the memory of the caller, before the call has even begun; so many take
#: some hundred megabytes. More belong into a list, or into a stream.
MOST_RETURNS = 1_000_000
#: A larger number is not shown: Python refuses to write the largest ones.
_SHOWN_BITS = 256

Given = dict[str, Any]
"""Options as the user wrote them: only those given (None is "not given"), with synonyms resolved."""

_RETURNS = frozenset({"num_returns"})
FUNCTION_NAMES = frozenset(FunctionOptions.__annotations__) | _RETURNS
CLASS_NAMES = frozenset(ClassOptions.__annotations__)
METHOD_NAMES = frozenset(CallOptions.__annotations__) | _RETURNS
#: Where to look for a name that a decorator does not know, before it has seen its target.
_EITHER = ("a remote function", "an actor class")
_BUILT_IN_RESOURCES = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}


def normalise(options: Mapping[str, Any], known: frozenset[str], what: str) -> Given:
    """Resolve synonyms, drop options that are None, and refuse unknown names.

    Args:
        options: as the user wrote them.
        known: names that ``what`` takes.
        what: "a remote function", "an actor class" or "an actor method", for the message.

    Raises:
        ValueError: an unknown name, or both names of a synonym.
        TypeError: an option of functions on a class.
    """
    __tracebackhide__ = True
    given: Given = {}
    for name, value in options.items():
        own = name if name in known else _own_name(name, value, known, what)
        if own != name and own in options:
            raise ValueError(f"{name}={value!r} and {own}={options[own]!r} are the same option: give one of them.")
        if value is not None and own:
            given[own] = value
    return given


def _own_name(name: str, value: object, known: frozenset[str], what: str) -> str:
    """What an option of another release is called here; empty for one that does no harm. Raises for all others."""
    __tracebackhide__ = True
    places = (what,) if what in later_names.NAMES else _EITHER
    place, found = next(
        ((place, found) for place in places if (found := later_names.find(place, name)) is not None), (what, None)
    )
    if found is None or (found.kind == later_names.ABSENT and value is not None):
        raise _unknown(name, known, what, later_names.sentence(place, name))
    if found.kind == later_names.ALIAS:
        return found.text
    if value is not None and what == place:
        later_names.hint(place, name)
    return ""


def _unknown(name: str, known: frozenset[str], what: str, sentence: str) -> Exception:
    renamed = next((found for place in _EITHER if (found := later_names.find(place, name)) is not None), None)
    own = renamed.text if renamed is not None and renamed.kind == later_names.ALIAS else name
    if known is CLASS_NAMES and own in FUNCTION_NAMES:
        hint = " Use @ray.method(num_returns=...) on the method." if own in _RETURNS else ""
        return TypeError(f"{name} is an option of remote functions; {what} does not take it.{hint}")
    if known is FUNCTION_NAMES and own in CLASS_NAMES:
        return ValueError(f"{name} is an option of actor classes; {what} does not take it.")
    if known is not FUNCTION_NAMES and known is not CLASS_NAMES and own in CLASS_NAMES:
        return ValueError(f"{name} is an option of actor classes, for the life of an actor; {what} does not take it.")
    return ValueError(f"{name!r} is not an option of {what}.{sentence or did_you_mean(name, known)}")


def task_options(given: Given) -> TaskOptions:
    """Complete and check the options of a remote function.

    Raises:
        TypeError: a value of the wrong type.
        ValueError: a value out of range.
    """
    __tracebackhide__ = True
    resources = _resources(given, default_cpus=UNIT)
    max_calls = _integer(given, "max_calls", default=1 if "GPU" in resources else 0, least=0)
    return TaskOptions(
        resources=resources,
        num_returns=_returns(given),
        max_calls=max_calls,
        max_retries=_integer(given, "max_retries", default=3, least=-1),
        retry_exceptions=_retry_exceptions(given.get("retry_exceptions", False)),
        timeout_s=_timeout(given),
        priority=_integer(given, "priority", default=0, least=None),
        name=_text(given, "name", "Task"),
        placement=placement_of(given, check_name),
    )


def actor_options(given: Given) -> ActorOptions:
    """Complete and check the options of an actor class.

    Raises:
        TypeError: a value of the wrong type.
        ValueError: a value out of range, or options that contradict each other.
    """
    __tracebackhide__ = True
    asked = not given.keys().isdisjoint(("num_cpus", "num_gpus", "resources", "memory"))
    held = _resources(given, default_cpus=UNIT if asked else 0)
    lifetime = given.get("lifetime")
    if lifetime not in (None, "detached", "non_detached"):
        raise ValueError(f"lifetime must be None, 'detached' or 'non_detached', not {lifetime!r}")
    max_restarts = _integer(given, "max_restarts", default=0, least=-1)
    max_task_retries = _integer(given, "max_task_retries", default=0, least=-1)
    if max_task_retries and not max_restarts:
        raise ValueError(
            f"max_task_retries={max_task_retries} needs max_restarts: an actor that is never restarted cannot "
            "run a call again."
        )
    groups = _groups(given.get("concurrency_groups"))
    name = _text(given, "name", "Actor")
    get_if_exists = given.get("get_if_exists", False)
    if not isinstance(get_if_exists, bool):
        raise TypeError(f"get_if_exists must be True or False, not {get_if_exists!r}")
    if get_if_exists and name is None:
        raise ValueError("get_if_exists=True needs name=: it looks for the actor by its name")
    return ActorOptions(
        resources=held,
        placement_resources=held if asked else {"CPU": UNIT},
        max_concurrency=_integer(given, "max_concurrency", 1, least=1) if "max_concurrency" in given else None,
        max_restarts=max_restarts,
        max_task_retries=max_task_retries,
        name=name,
        namespace=_text(given, "namespace", "Namespace"),
        detached=lifetime == "detached",
        concurrency_groups=groups,
        placement=placement_of(given, check_name),
    )


def method_options(given: Given) -> MethodOptions:
    """Complete and check the options of an actor method.

    Raises:
        TypeError: a value of the wrong type.
        ValueError: a value out of range.
    """
    __tracebackhide__ = True
    retries = _integer(given, "max_task_retries", 0, least=-1) if "max_task_retries" in given else None
    return MethodOptions(
        num_returns=_returns(given),
        timeout_s=_timeout(given),
        concurrency_group=_text(given, "concurrency_group", "Concurrency group"),
        name=_text(given, "name", "Task"),
        max_task_retries=retries,
    )


def check_name(value: object, what: str) -> str:
    """``value`` as a plain string, if it can name something; a ``StrEnum`` can, and numpy's strings.

    Raises:
        TypeError: it is no string.
        ValueError: it is empty, or UTF-8 cannot encode it.
    """
    __tracebackhide__ = True
    if not isinstance(value, str):
        raise TypeError(f"{what} name must be a string, not {value!r} ({type(value).__name__})")
    name = value if type(value) is str else str.__str__(value)
    if not name:
        raise ValueError(f"{what} name cannot be an empty string.")
    lone = lone_surrogate(name)
    if lone:
        raise ValueError(
            f"{what} name {name!r} cannot be encoded in UTF-8, because of {lone}. Names of files "
            'that are not in UTF-8 have such: name.encode("utf-8", "backslashreplace").decode() can be a name.'
        )
    return name


def quantity(name: str, value: object) -> int:
    """A resource amount in fixed point.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative, not finite, too large, or a fraction too small to count.
    """
    __tracebackhide__ = True
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise TypeError(f"{name} must be a number, not {value!r} ({type(value).__name__})")
    amount = _float(name, value)
    if not amount >= 0 or math.isinf(amount):
        raise ValueError(f"Resource quantities must be nonnegative and finite: {name}={value!r}")
    _check_size(name, amount)
    fixed = round(amount * UNIT)
    if amount and not fixed:
        raise ValueError(f"{name}={value!r} is below the smallest amount that counts, {1 / UNIT}")
    return fixed


def whole_quantity(name: str, value: object) -> int:
    """As ``quantity``, for what is shared out one by one: a fraction only below one."""
    __tracebackhide__ = True
    fixed = quantity(name, value)
    if fixed > UNIT and fixed % UNIT:
        raise ValueError(f"{name}={value!r}: above 1 it must be a whole number")
    return fixed


def custom_resources(resources: object) -> dict[str, int]:
    """The ``resources=`` argument in fixed point, without zeros.

    Raises:
        TypeError: it is no dictionary of numbers by name.
        ValueError: a name that has an argument of its own, an empty name, or a bad amount.
    """
    __tracebackhide__ = True
    if resources is None:
        return {}
    if not isinstance(resources, Mapping):
        raise TypeError(f"resources must be a dictionary of amounts by name, not {resources!r}")
    amounts: dict[str, int] = {}
    for name, value in resources.items():
        name = check_name(name, "Resource")  # noqa: PLW2901 - a plain string from here on
        if name in _BUILT_IN_RESOURCES:
            raise ValueError(f"resources={{{name!r}: ...}}: use the argument {_BUILT_IN_RESOURCES[name]}= instead")
        fixed = quantity(f"resources[{name!r}]", value)
        if fixed:
            amounts[name] = fixed
    return amounts


def whole_number(name: str, value: object, least: int | None, most: int = MOST) -> int:
    """``value`` as an int between ``least``, or what 64 bits hold, and ``most``.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is less, or more.
    """
    __tracebackhide__ = True
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {value!r} ({type(value).__name__})") from None
    least = -MOST - 1 if least is None else least
    if not least <= number <= most:
        limit = f"at least {least}" if number < least else f"at most {most}"
        shown = number if number.bit_length() <= _SHOWN_BITS else f"a number of {number.bit_length()} bits"
        raise ValueError(f"{name} must be {limit}, not {shown}")
    return number


def node_count(name: str, n: int | None) -> int:
    """A number of nodes to wait for; one by default.

    Raises:
        TypeError: it is none.
        ValueError: it is less than one.
    """
    if n is not None and (isinstance(n, bool) or not isinstance(n, int)):
        raise TypeError(f"{name} must be a number of nodes or None, not {n!r}")
    if n is not None and n < 1:
        raise ValueError(f"{name} must be at least 1, not {n}")
    return n or 1


def _float(name: str, value: SupportsFloat) -> float:
    __tracebackhide__ = True
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be below {sys.float_info.max:g}, which is the largest float") from None


def seconds(name: str, value: object) -> float | None:
    """A duration in seconds: a number, a timedelta, or None for no limit.

    Raises:
        TypeError: it is none of these.
        ValueError: it is negative, no number, or too large for a float.
    """
    __tracebackhide__ = True
    if value is None:
        return None
    if isinstance(value, datetime.timedelta):
        amount = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be seconds, a datetime.timedelta or None, not {value!r}")
    else:
        amount = _float(name, value)
    if not amount >= 0:
        raise ValueError(f"The {name!r} argument must be nonnegative. Received {value!r}")
    return amount


def _resources(given: Given, default_cpus: int) -> dict[str, int]:
    amounts = {
        "CPU": quantity("num_cpus", given["num_cpus"]) if "num_cpus" in given else default_cpus,
        "GPU": whole_quantity("num_gpus", given.get("num_gpus", 0)),
        "memory": memory_bytes("memory", given.get("memory", 0)) * UNIT,
    }
    amounts |= custom_resources(given.get("resources"))
    return {name: amount for name, amount in amounts.items() if amount}


def memory_bytes(name: str, value: object) -> int:
    """A size in bytes: a whole number, also when written as a float (``2e9``).

    Raises:
        TypeError: it is no whole number.
        ValueError: it is negative or too large.
    """
    __tracebackhide__ = True
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    number = whole_number(f"{name} (bytes)", value, least=0)
    _check_size(name, number)
    return number


def _check_size(name: str, amount: float) -> None:
    if amount > _MAX_AMOUNT:
        raise ValueError(f"{name}={amount} is above the largest amount that counts, {_MAX_AMOUNT}")


def _integer(given: Given, name: str, default: int, least: int | None) -> int:
    return whole_number(name, given[name], least) if name in given else default


def _returns(given: Given) -> int:
    value = given.get("num_returns", 1)
    if isinstance(value, str):
        if value != "streaming":
            instead = later_names.sentence("num_returns", value)
            raise ValueError(f"num_returns must be a whole number or 'streaming', not {value!r}.{instead}")
        return STREAMING
    return whole_number("num_returns", value, least=0, most=MOST_RETURNS)


def _text(given: Given, name: str, what: str) -> str | None:
    return check_name(given[name], what) if name in given else None


def _timeout(given: Given) -> float | None:
    timeout_s = seconds("timeout_s", given.get("timeout_s"))
    if timeout_s == 0:
        raise ValueError("timeout_s must be greater than 0; float('inf') is no limit")
    return timeout_s


def _retry_exceptions(value: object) -> bool | tuple[type[BaseException], ...]:
    if isinstance(value, bool):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(t, type) and issubclass(t, BaseException) for t in value):
        return tuple(value)
    raise TypeError(f"retry_exceptions must be True, False or a list of exception classes, not {value!r}")


def _groups(value: object) -> dict[str, int]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"concurrency_groups must be a dictionary of sizes by name, not {value!r}")
    return {
        check_name(name, "Concurrency group"): whole_number(f"concurrency_groups[{name!r}]", size, least=1)
        for name, size in value.items()
    }
