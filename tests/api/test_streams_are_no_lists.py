"""A stream where references or a list are wanted: the error says what it is, and what to write instead."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from tests.sessions import shared, unchecked

import ray
from ray.exceptions import UnpicklableError

PATIENCE_S = 30.0
_session = shared(num_cpus=2)
nothing_left = unchecked()


@ray.remote(num_returns="streaming")
def three() -> Any:
    yield from range(3)


@ray.remote
def same(value: Any) -> Any:
    return value


@ray.remote
class Actor:
    @ray.method(num_returns="streaming")
    def three(self) -> Any:
        yield from range(3)

    def same(self, value: Any) -> Any:
        return value


@pytest.fixture(params=["of a task", "of an actor"])
def stream(request: pytest.FixtureRequest) -> Any:
    actor = Actor.remote()
    drawn = three.remote() if request.param == "of a task" else actor.three.remote()
    yield drawn
    assert ray.get(list(drawn), timeout=PATIENCE_S) == [0, 1, 2]  # nothing was taken from it


WAITS = r"is a stream, which gives references one by one.*for ref in stream"
ELEMENT = r"is a stream, which gives references one by one.*\[\*stream\]"
GETS = r"It is a stream, which gives references one by one.* Use \[ray\.get\(ref\) for ref in it\]\.$"
WRONG: list[tuple[str, Callable[[Any], object], type[Exception], str]] = [
    ("wait", lambda stream: ray.wait(stream), TypeError, WAITS),
    ("wait for one of several", lambda stream: ray.wait([same.remote(1), stream]), TypeError, ELEMENT),
    ("get", lambda stream: ray.get(stream), ValueError, GETS),
    ("get in a list", lambda stream: ray.get([stream]), TypeError, ELEMENT),
    ("index", lambda stream: stream[0], TypeError, r"is a stream,.* cannot be indexed\. next\(stream\)"),
    ("slice", lambda stream: stream[:2], TypeError, r"is a stream,.* cannot be indexed\. next\(stream\)"),
    ("len", len, TypeError, r"is a stream,.* has no length\. len\(list\(stream\)\)"),
    ("reversed", reversed, TypeError, r"is a stream,.* cannot be read backwards"),
    ("kill", ray.kill, ValueError, r"Its close\(\) cancels the task\.$"),
    ("cancel", ray.cancel, TypeError, r"Its close\(\) cancels the task"),
    ("copy", copy.copy, TypeError, "is a stream for one consumer.* pass on the refs"),
    ("pickle", pickle.dumps, TypeError, "is a stream for one consumer.* pass on the refs"),
]


@pytest.mark.parametrize(("use", "kind", "text"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_wrong_use(stream: Any, use: Callable[[Any], object], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        use(stream)
    assert ".." not in str(caught.value)


@pytest.mark.parametrize(
    "use",
    [
        lambda stream: same.remote(stream),
        lambda stream: same.remote(value=stream),
        lambda stream: same.remote([{"deep": stream}]),
        lambda stream: Actor.remote().same.remote(stream),
        lambda stream: ray.put(stream),
        lambda stream: ray.put([stream]),
    ],
    ids=["argument", "keyword", "nested", "of an actor", "put", "put in a list"],
)
def test_it_cannot_be_sent(stream: Any, use: Callable[[Any], object]) -> None:
    with pytest.raises(UnpicklableError) as caught:
        use(stream)
    text = str(caught.value)
    assert "is a stream for one consumer" in text
    assert text.endswith("[f.remote(ref) for ref in stream], or all of them to one: f.remote(list(stream)).")
    assert ".." not in text
    assert "__reduce__ method" not in text


def test_it_cannot_be_returned() -> None:
    @ray.remote
    def returns() -> Any:
        return three.remote()

    with pytest.raises(UnpicklableError, match=r"is a stream for one consumer.*f\.remote\(list\(stream\)\)\."):
        ray.get(returns.remote(), timeout=PATIENCE_S)


def test_what_streams_can_do_they_still_can() -> None:
    assert three.remote()
    assert len(list(three.remote())) == 3
    assert ray.get([*three.remote()], timeout=PATIENCE_S) == [0, 1, 2]
    assert ray.get(list(map(same.remote, three.remote())), timeout=PATIENCE_S) == [0, 1, 2]
    first, second, third = three.remote()
    assert ray.get([first, second, third], timeout=PATIENCE_S) == [0, 1, 2]


def test_a_reason_that_ends_a_sentence_ends_it_once() -> None:
    class Stubborn:
        def __reduce__(self) -> Any:
            raise TypeError("It stays here.")

    with pytest.raises(UnpicklableError, match=r"TypeError: It stays here\. Its class says so") as caught:
        same.remote(Stubborn())
    assert ".." not in str(caught.value)
