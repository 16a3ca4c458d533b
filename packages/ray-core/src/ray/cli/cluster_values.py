"""Values on the command line that say what a node is: sizes, resources, labels, ports, addresses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ray.api.options import custom_resources, quantity, whole_quantity
from ray.runtime.cluster.control_url import parse_control_url
from ray.runtime.cluster.given_names import LEAST_WAIT_S, MOST_WAIT_S, cluster_name, label, node_name
from ray.runtime.cluster.places import PORTS
from ray.units import GIB, KIB, MIB

T = TypeVar("T")

_UNITS = {"": 1, "b": 1, "kib": KIB, "mib": MIB, "gib": GIB, "tib": 1024 * GIB}
_DECIMAL = {"kb", "mb", "gb", "tb", "k", "m", "g", "t"}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)")


class Value(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.2
    """A text that a function turns into a value; its ValueErrors and TypeErrors are wrong usage."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except (ValueError, TypeError) as error:
            self.fail(str(error), param, ctx)


def size(text: str) -> int:
    """Bytes, such as ``512MiB``."""
    found = _SIZE.fullmatch(text.strip())
    number, unit = (found[1], found[2].lower()) if found else ("", "?")
    if unit in _DECIMAL:
        raise ValueError(f"{text!r} is not clear: say {number}{unit[0].upper()}iB, which counts in steps of 1024")
    if unit not in _UNITS:
        raise ValueError(f"{text!r} is no size, such as 512MiB, 2GiB or 1048576")
    return int(float(number) * _UNITS[unit]) if "." in number else int(number) * _UNITS[unit]


def resources(text: str) -> dict[str, int]:
    """Custom resources in fixed point, from JSON or from ``disk=2,net=1``."""
    given: Any
    if text.lstrip().startswith("{"):
        try:
            given = json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, text))
        except json.JSONDecodeError as error:
            raise ValueError(f"{text!r} is no JSON: {error}") from None
    else:
        given = {name: _number(name, amount) for name, amount in _pairs(text, "disk=2,net=1")}
    return custom_resources(given)


def labels(text: str) -> dict[str, str]:
    """Labels of a node, from ``zone=a,kind=big``."""
    found = dict(_pairs(text, "zone=a"))
    return {label(key): label(value) for key, value in found.items()}


def port(text: str) -> int:
    """A port to listen on."""
    if not text.isdecimal() or int(text) not in PORTS:
        raise ValueError(f"{text!r} is no port from {PORTS.start} to {PORTS.stop - 1}")
    return int(text)


def port_range(text: str) -> tuple[int, int]:
    """The first and the last port, from ``20000-20100``."""
    first, dash, last = text.partition("-")
    if not dash:
        raise ValueError(f"{text!r} is no range of ports, such as 20000-20100")
    found = port(first.strip()), port(last.strip())
    if found[0] > found[1]:
        raise ValueError(f"{text!r} ends before it begins")
    return found


def control_url(text: str) -> str:
    """Of a control server that exists; without a password, which other users of the machine could see here."""
    if parse_control_url(text).password:
        raise ValueError(
            "a password on the command line can be seen by all users of this machine: write the URL into a file that "
            "only you can read, and give --control-file PATH, or - for standard input"
        )
    return text


def seconds(text: str) -> float:
    """How long something is waited for."""
    found = _number("SECONDS", text)
    if not LEAST_WAIT_S <= found <= MOST_WAIT_S:
        raise ValueError(f"{text!r} is no time from {LEAST_WAIT_S:g} to {MOST_WAIT_S:g} seconds")
    return found


def cpus(text: str) -> int:
    """In fixed point."""
    return quantity("num_cpus", _number("num_cpus", text))


def gpus(text: str) -> int:
    """In fixed point."""
    return whole_quantity("num_gpus", _number("num_gpus", text))


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name}={text!r} is no number") from None


def _pairs(text: str, example: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise ValueError(f"{part!r} in {text!r} is no NAME=VALUE, such as {example}")
        pairs.append((name.strip(), value.strip()))
    return list(_once(pairs, text).items())


def _once(pairs: list[tuple[str, T]], text: str) -> dict[str, T]:
    """Each name's value."""
    names = [name for name, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{min(twice)!r} is in {text!r} twice")
    return dict(pairs)


SIZE = Value("size", size)
RESOURCES = Value("resources", resources)
LABELS = Value("labels", labels)
PORT = Value("port", port)
PORT_RANGE = Value("lo-hi", port_range)
CLUSTER_NAME = Value("name", cluster_name)
NODE_NAME = Value("name", node_name)
CONTROL_URL = Value("url", control_url)
SECONDS = Value("seconds", seconds)
CPUS = Value("number", cpus)
GPUS = Value("number", gpus)
