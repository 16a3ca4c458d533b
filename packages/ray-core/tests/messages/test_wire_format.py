"""The wire format changes only by addition: every struct against the committed bytes of all its versions."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ray.exceptions import RemoteProtocolError
from ray.messages import codec


def _load_module() -> Any:
    spec = importlib.util.spec_from_file_location("wire_format", Path(__file__).with_name("wire_format.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["wire_format"] = module
    spec.loader.exec_module(module)
    return module


wire_format = _load_module()
STRUCTS = wire_format.structs()
TABLE = wire_format.load()
COMMAND = "run packages/ray-core/tests/messages/wire_format.py if that is meant, and commit what it writes"


def decode(name: str, data: bytes) -> Any:
    """As a message if it is one, else as the part of one."""
    cls = STRUCTS[name]
    if cls.__struct_config__.tag is not None:
        message = codec.decode([data])
        assert type(message) is cls
        return message
    return msgspec.msgpack.Decoder(cls).decode(data)


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_bytes_are_the_committed_ones(name: str) -> None:
    cls = STRUCTS[name]
    assert name in TABLE["structs"], f"{name} is new: {COMMAND}"
    current = TABLE["structs"][name][-1]
    assert list(cls.__struct_fields__) == current["fields"], f"{name} has changed: {COMMAND}"
    assert wire_format.encoded(cls) == current["bytes"], f"the bytes of {name} have changed"
    assert decode(name, bytes.fromhex(current["bytes"])) == wire_format.sample(cls)


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_every_older_version_can_be_read(name: str) -> None:
    """Bytes of a shorter struct: what it did not have is at its default."""
    cls = STRUCTS[name]
    now = wire_format.sample(cls)
    for version in TABLE["structs"][name]:
        old = decode(name, bytes.fromhex(version["bytes"]))
        for field in cls.__struct_fields__:
            if field in version["fields"]:
                expected = getattr(now, field)
                if not _holds_structs(expected):  # whose own fields may have grown
                    assert getattr(old, field) == expected
            else:
                assert getattr(old, field) == wire_format.default_of(cls, field)


def _holds_structs(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_structs, value))
    return isinstance(value, msgspec.Struct)


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_any_number_of_optional_fields_may_be_missing_or_surplus(name: str) -> None:
    """What a peer of an earlier or a later release sends."""
    cls = STRUCTS[name]
    now = wire_format.sample(cls)
    items = msgspec.msgpack.decode(msgspec.msgpack.encode(now))
    head = 0 if cls.__struct_config__.tag is None else 1
    fields = cls.__struct_fields__
    for length in range(len(fields) + 1):
        data = msgspec.msgpack.encode(items[: head + length])
        missing = fields[length:]
        try:
            defaults = {field: wire_format.default_of(cls, field) for field in missing}
        except LookupError:
            with pytest.raises((msgspec.ValidationError, RemoteProtocolError)):
                decode(name, data)
            continue
        assert decode(name, data) == msgspec.structs.replace(now, **defaults)
    assert decode(name, msgspec.msgpack.encode([*items, "a field of tomorrow", {"x": 1}])) == now


def test_optional_fields_are_last() -> None:
    for name, cls in STRUCTS.items():
        required = [info.required for info in msgspec.structs.fields(cls)]
        assert required == sorted(required, reverse=True), name


def test_tags_are_unique_and_never_used_again() -> None:
    tags = {}
    for name, cls in STRUCTS.items():
        tag = wire_format.tag_of(cls)
        if tag is not None:
            assert tag not in tags, f"{name} and {tags[tag]} have the same tag"
            tags[tag] = name
            assert TABLE["tags"].get(str(tag)) == name, f"the tag {tag} of {name} is not registered: {COMMAND}"
    for number, name in TABLE["tags"].items():
        if int(number) not in tags:
            assert wire_format.tag_of(STRUCTS.get(name, msgspec.Struct)) is None, f"{name} has changed its tag"
    names = list(TABLE["tags"].values())
    assert len(set(names)) == len(names)


def test_nothing_leaves_the_table() -> None:
    for name in TABLE["structs"]:
        if name not in STRUCTS:
            assert name in TABLE["tags"].values(), f"{name} is gone though others contain it"


def test_every_message_can_be_decoded_by_the_codec() -> None:
    tagged = [cls for cls in STRUCTS.values() if wire_format.tag_of(cls) is not None]
    assert len(tagged) >= 40
    for cls in tagged:
        message = wire_format.sample(cls)
        assert codec.decode([codec.encode(message)]) == message


# --- the guard itself -------------------------------------------------------------------------------------------------


class First(msgspec.Struct, frozen=True, array_like=True, tag=900):
    a: int
    b: str = ""


class Grown(msgspec.Struct, frozen=True, array_like=True, tag=900):
    a: int
    b: str = ""
    c: list[int] = []


class Inserted(msgspec.Struct, frozen=True, array_like=True, tag=900):
    c: list[int]
    a: int
    b: str = ""


class Required(msgspec.Struct, frozen=True, array_like=True, tag=900, kw_only=True):
    a: int
    b: str = ""
    c: int


class Retyped(msgspec.Struct, frozen=True, array_like=True, tag=900):
    a: str
    b: str = ""


class Holder(msgspec.Struct, frozen=True, array_like=True):
    things: list[First]


class LaterHolder(msgspec.Struct, frozen=True, array_like=True):
    things: list[Grown]


class Squatter(msgspec.Struct, frozen=True, array_like=True, tag=1):
    a: int


def extended(monkeypatch: pytest.MonkeyPatch, table: dict[str, Any], name: str, cls: Any) -> dict[str, Any]:
    table = copy.deepcopy(table)
    monkeypatch.setattr(wire_format, "structs", lambda: {name: cls})
    wire_format.extend(table)
    return table


def test_table_takes_additions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    first = extended(monkeypatch, TABLE, "Thing", First)
    assert first["tags"]["900"] == "Thing"
    grown = extended(monkeypatch, first, "Thing", Grown)
    old, new = grown["structs"]["Thing"]
    assert msgspec.msgpack.decode(bytes.fromhex(old["bytes"]), type=Grown).c == []
    assert new["fields"] == ["a", "b", "c"]
    assert extended(monkeypatch, grown, "Thing", Grown) == grown
    for cls in (Inserted, First):
        with pytest.raises(ValueError, match="new ones go behind them"):
            extended(monkeypatch, grown, "Thing", cls)
    with pytest.raises(LookupError, match="has no default"):
        extended(monkeypatch, first, "Thing", Required)
    with pytest.raises(ValueError, match="the type of a field has changed"):
        extended(monkeypatch, first, "Thing", Retyped)
    holder = extended(monkeypatch, TABLE, "Holder", Holder)
    old, new = extended(monkeypatch, holder, "Holder", LaterHolder)["structs"]["Holder"]
    assert old["fields"] == new["fields"]
    assert msgspec.msgpack.decode(bytes.fromhex(old["bytes"]), type=LaterHolder).things[0].c == []
    with pytest.raises(ValueError, match="belongs to Thing"):
        extended(monkeypatch, first, "Other", First)
    with pytest.raises(ValueError, match="belongs to Hello"):
        extended(monkeypatch, TABLE, "Squatter", Squatter)
