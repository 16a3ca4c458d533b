"""Classes of the program, which no worker can import, made by tools that look at a class when it is made."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import abc, collections, dataclasses, enum, typing, weakref
import attrs, msgspec
import ray

T = typing.TypeVar("T")

class Point(msgspec.Struct):
    x: int = 1
    tags: list = []

    def twin(self):
        return Point(self.x + 1)

class Frozen(msgspec.Struct, frozen=True, tag=True, array_like=True, order=True):
    name: str

class Box(msgspec.Struct, typing.Generic[T]):
    content: T
    points: list[Point] = msgspec.field(default_factory=lambda: [Point(5)])

class Wide(Point, kw_only=True, rename="camel", omit_defaults=True, weakref=True, dict=True):
    kinds: typing.ClassVar[int] = 3
    long_name: int
    other: Frozen | None = None

    def __post_init__(self):
        self.seen = self.long_name

class Odd(msgspec.Struct):
    __match_args__ = ()
    first: int
    second: int = 2

class Colour(enum.Enum):
    RED = 1

class Pair(typing.NamedTuple):
    left: int

Named = collections.namedtuple("Named", "right")

@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    width: int

@attrs.define
class Defined:
    height: int

@attrs.define
class Derived(Defined):
    depth: int = 2

class Meta(type):
    def __new__(meta, name, bases, contents, **options):
        cls = super().__new__(meta, name, bases, contents)
        cls.fields = list(contents.get("__annotations__", ()))
        return cls

    def __init__(cls, name, bases, contents, **options):
        super().__init__(name, bases, contents)

class Model(metaclass=Meta, strict=True):
    size: int = 2

    def __eq__(self, other):
        return type(self) is type(other) and self.fields == other.fields == ["size"]

class Registered:
    def __init_subclass__(cls, key=None, **options):
        cls.key = key

class Child(Registered, key=3):
    def __eq__(self, other):
        return type(self) is type(other) and self.key == other.key == 3

VALUES = [
    Point(3), Frozen("a"), Box([Point()]), Wide(long_name=1, other=Frozen("b")), Odd(1), Colour.RED, Pair(1),
    Named(1), Slotted(1), Defined(1), Derived(1), Model(), Child(), Point, Box, Wide,
]

@ray.remote
def same(value):
    return value

@ray.remote
def make(index):
    return VALUES[index]

@ray.remote
def look(point, frozen, box, wide):
    kind = type(wide)
    weakref.ref(wide)
    data = msgspec.json.encode(wide)
    assert msgspec.json.decode(data, type=kind) == wide
    for wrong in (lambda: kind(1, [], 2), lambda: setattr(frozen, "name", "b")):
        try:
            wrong()
        except (TypeError, AttributeError):
            pass
        else:
            raise AssertionError
    assert hash(frozen) == hash(Frozen("a")) and frozen < Frozen("b")
    assert kind(long_name=7).seen == 7 and kind.kinds == 3
    point.tags.append(1)
    return [data.decode(), msgspec.json.encode(frozen).decode(), point.twin(), box.points, type(box)(2).points, Point()]

def main():
    for index, value in enumerate(VALUES):
        for ref in (same.remote(value), make.remote(index), ray.remote(lambda: value).remote()):
            back = ray.get(ref, timeout=50)
            assert type(back) is type(value) and back == value, (back, value)
    seen = ray.get(look.remote(*VALUES[:4]), timeout=50)
    assert seen[:2] == ['{"longName":1,"other":["Frozen","b"]}', '["Frozen","a"]'], seen
    assert seen[2:] == [Point(4), [Point(5)], [Point(5)], Point()], seen
    print("done")

if __name__ == "__main__":
    with ray.init(num_cpus=1):
        main()
"""


@pytest.mark.parametrize("run", ["as a file", "as an argument"])
def test_classes_of_the_program(tmp_path, run):
    """They arrive as what they are, with what they can do, and come back as the same classes."""
    pytest.importorskip("attrs")
    path = tmp_path / "program.py"
    path.write_text(_PROGRAM)
    command = [sys.executable, "-c", _PROGRAM] if run == "as an argument" else [sys.executable, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55)
    assert done.stdout == "done\n", done.stderr
