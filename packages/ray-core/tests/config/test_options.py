from typing import Annotated, Literal

import msgspec
import pytest

from ray.config import Setting, check_options, did_you_mean, make_options
from ray.exceptions import PluginOptionsError


class Inner(msgspec.Struct):
    depth: int = 1


class Options(msgspec.Struct, rename={"level": "lvl"}):
    path: str
    size: Annotated[int, msgspec.Meta(gt=0)] = 4
    level: int = 0
    inner: Inner = msgspec.field(default_factory=Inner)
    tags: list[str] = []
    way: Literal["near", "far"] | None = None


def given(**values: object) -> dict[str, Setting]:
    return {name: Setting(value, "from ray.toml") for name, value in values.items()}


def test_defaults_are_filled_in_and_plain():
    values = check_options(Options, given(path="p", tags=["a"]), "store='x'")
    assert values == {"path": "p", "size": 4, "lvl": 0, "inner": {"depth": 1}, "tags": ["a"], "way": None}
    assert make_options(Options, values) == Options("p", tags=["a"])


def test_plugins_without_options():
    assert check_options(None, {}, "store='x'") == {}
    assert make_options(None, {}) == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "p", "sise": 1}, "store='x' has no option 'sise' (from ray.toml). Did you mean 'size'?"),
        ({"path": 1}, "store='x': option 'path' (from ray.toml): expected 'str', got 'int'"),
        ({"path": "p", "size": 0}, "store='x': option 'size' (from ray.toml): expected 'int' >= 1"),
        (
            {"path": "p", "inner": {"depth": "x"}},
            "store='x': option 'inner.depth' (from ray.toml): expected 'int', got 'str'",
        ),
        ({"path": "p", "tags": [1]}, "store='x': option 'tags[0]' (from ray.toml): expected 'str', got 'int'"),
        (
            {"path": "p", "way": "nera"},
            "store='x': option 'way' (from ray.toml): invalid enum value 'nera'. Accepted: 'near', 'far'.",
        ),
        (
            {"path": "p", "way": 5},
            "store='x': option 'way' (from ray.toml): expected 'str | null', got 'int'. Accepted: 'near', 'far'.",
        ),
        ({}, "store='x': Object missing required field 'path'"),
    ],
)
def test_refusals(values, message):
    with pytest.raises(PluginOptionsError) as caught:
        check_options(Options, given(**values), "store='x'")
    assert str(caught.value) == message


def test_did_you_mean():
    assert did_you_mean("shn", ["heap", "shm"]) == " Did you mean 'shm'?"
    assert did_you_mean("zzzzz", ["heap", "shm"]) == " Known: 'heap', 'shm'."
    assert did_you_mean("x", []) == ""
