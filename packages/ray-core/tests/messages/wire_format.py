"""The committed wire format: tags, and the bytes of one sample of every struct, in ``wire_format.json``.

Run this file after adding a struct, or a field at the end of one: it adds to the table what is new and refuses
everything else. The versions of a struct stay in the table for good; its last one is the current one. Only what no
release contains yet may be taken out by hand, to be written anew.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

import msgspec

from ray.messages import cluster, finding, jobs, node, objects, placement, wire
from ray.serialization import Envelope

TABLE = Path(__file__).with_suffix(".json")
Struct = type[msgspec.Struct]


def structs() -> dict[str, Struct]:
    """Every struct that travels between processes, by name."""
    found: dict[str, Struct] = {"Envelope": Envelope}
    for module in (wire, placement, node, jobs, cluster, finding, objects):
        for name, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, wire.Struct) and value is not wire.Struct:
                assert found.setdefault(name, value) is value, f"two structs are called {name}"
    return found


def tag_of(cls: Struct) -> int | None:
    tag = cls.__struct_config__.tag
    assert tag is None or isinstance(tag, int)
    return tag


def sample(cls: Struct) -> msgspec.Struct:
    """An instance whose every field says its name, as far as its type can."""
    hints = typing.get_type_hints(cls)
    return cls(**{name: _value(hints[name], name) for name in cls.__struct_fields__})


def encoded(cls: Struct) -> str:
    return msgspec.msgpack.encode(sample(cls)).hex()


def default_of(cls: Struct, field: str) -> Any:
    """The value that a field has in bytes from before it was added.

    Raises:
        LookupError: it has none.
    """
    (info,) = (info for info in msgspec.structs.fields(cls) if info.name == field)
    if info.default is not msgspec.NODEFAULT:
        return info.default
    if info.default_factory is not msgspec.NODEFAULT:
        return info.default_factory()
    raise LookupError(f"{cls.__name__}.{field} has no default: bytes from before it was added cannot be read")


def _value(hint: Any, name: str) -> Any:
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return _value(arguments[0], name)
    if kind is list:
        return [_value(arguments[0], name)]
    if kind is tuple:
        arguments = arguments[:1] if arguments[-1] is ... else arguments
        return tuple(_value(argument, name) for argument in arguments)
    if kind is dict:
        return {_value(arguments[0], name): _value(arguments[1], name)}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return sample(kind)
    values = {bytes: name.encode(), str: name, bool: True, int: 1000 + len(name), float: 1.5}
    return values[kind]


def load() -> dict[str, Any]:
    """The table: ``{"tags": {number: name}, "structs": {name: [{"fields": [...], "bytes": hex}, ...]}}``."""
    loaded: dict[str, Any] = json.loads(TABLE.read_text())
    return loaded


def extend(table: dict[str, Any]) -> list[str]:
    """Add what is new; returns a line for each addition.

    Raises:
        ValueError: something that is in the table has changed.
    """
    said = []
    for name, cls in structs().items():
        tag, fields = tag_of(cls), list(cls.__struct_fields__)
        if tag is not None and table["tags"].setdefault(str(tag), name) != name:
            raise ValueError(f"{name} has the tag {tag}, which belongs to {table['tags'][str(tag)]}")
        versions = table["structs"].setdefault(name, [])
        known = versions[-1]["fields"] if versions else []
        if fields[: len(known)] != known:
            raise ValueError(f"{name} had the fields {known}; new ones go behind them")
        for field in fields[len(known) :] if versions else []:
            default_of(cls, field)
        now = encoded(cls)
        if versions and not _begins(_raw(now), _raw(versions[-1]["bytes"])):
            raise ValueError(f"{name} is encoded in another way than before: the type of a field has changed")
        if not versions or now != versions[-1]["bytes"]:
            versions.append({"fields": fields, "bytes": now})
            said.append(f"{name}: {', '.join(fields[len(known) :]) or 'no fields of its own'}")
    return said


def _raw(data: str) -> Any:
    return msgspec.msgpack.decode(bytes.fromhex(data))


def _begins(now: Any, before: Any) -> bool:
    """Whether arrays, at any depth, have only grown at their ends."""
    if isinstance(now, list) and isinstance(before, list):
        return len(before) <= len(now) and all(map(_begins, now, before))
    return type(now) is type(before) and now == before


def main() -> int:
    """Extend the table in its file."""
    table = load() if TABLE.exists() else {"tags": {}, "structs": {}}
    try:
        said = extend(table)
    except (ValueError, LookupError) as error:
        print(error, file=sys.stderr)
        return 1
    table["tags"] = dict(sorted(table["tags"].items(), key=lambda item: int(item[0])))
    table["structs"] = dict(sorted(table["structs"].items()))
    TABLE.write_text(json.dumps(table, indent=1) + "\n")
    print("\n".join(said) or "nothing is new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
