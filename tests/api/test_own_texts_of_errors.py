"""Programs raise errors of ray with one text of their own, and derive from them, as with built-in ones."""

from __future__ import annotations

import pickle

import pytest
from tests.api.one_session import nothing_left, session

import ray
from ray import exceptions

__all__ = ["nothing_left", "session"]

KINDS = sorted(
    {
        kind
        for kind in vars(exceptions).values()
        if isinstance(kind, type) and issubclass(kind, exceptions.RayError) and kind is not exceptions.ProtocolError
    },
    key=lambda kind: kind.__name__,
)
#: Those whose first argument is a name, an id or a number are as free as the others.
WHOLE = [
    exceptions.GetTimeoutError,
    exceptions.ObjectStoreFullError,
    exceptions.ObjectLostError,
    exceptions.OwnerDiedError,
    exceptions.ObjectExistsError,
    exceptions.BackPressureError,
    exceptions.RaySystemError,
    exceptions.RayConnectionError,
    exceptions.PluginError,
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_one_text_is_taken(kind):
    error = kind("my own text")
    assert "my own text" in str(error).lower()
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize("kind", WHOLE, ids=lambda kind: kind.__name__)
def test_and_is_all_that_is_said(kind):
    assert str(kind("my own text")) == "my own text"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_subclasses_take_one_too(kind):
    class Own(kind):
        def __init__(self, number):
            super().__init__(f"it was {number}")
            self.number = number

    error = Own(3)
    assert error.number == 3
    assert "it was 3" in str(error).lower()


def test_attributes_are_there():
    assert exceptions.GetTimeoutError("text").timeout_s is None
    assert exceptions.GetTimeoutError(3).timeout_s == 3
    assert exceptions.ObjectStoreFullError("text").needed_bytes == 0
    assert exceptions.ObjectLostError("text").object_id == b""
    assert exceptions.ObjectExistsError("text").object_id == b""
    assert exceptions.BackPressureError("text").limit is None
    assert exceptions.BackPressureError("The mailbox", 3).limit == 3


class Late(exceptions.GetTimeoutError):
    pass


@ray.remote
def late(kind):
    raise kind("my own text")


@pytest.mark.parametrize("kind", [exceptions.GetTimeoutError, exceptions.ObjectLostError, Late])
def test_they_come_out_of_tasks(kind):
    with pytest.raises(kind, match="my own text"):
        ray.get(late.remote(kind))
