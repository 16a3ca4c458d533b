"""What the name of an actor's class means in its methods, where the program has taken the name away."""

from __future__ import annotations

import pytest

import ray


def made_without_its_name():
    class Shape:
        def kind(self):
            return "shape"

        def again(self):
            return Shape  # noqa: F821 - it is deleted below

    actor_class = ray.remote(Shape)
    del Shape
    return actor_class


def test_a_name_that_was_deleted(start):
    """Methods that do not use it work, and one that does raises what it would raise anywhere."""
    start(num_cpus=1)
    actor = made_without_its_name().remote()
    assert ray.get(actor.kind.remote(), timeout=20) == "shape"
    with pytest.raises(NameError, match="Shape"):
        ray.get(actor.again.remote(), timeout=20)
