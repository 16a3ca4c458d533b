"""An actor that is not created leaves nothing behind."""

from __future__ import annotations

import pytest

import ray


@ray.remote
class Keeper:
    def __init__(self, value):
        self.value = value

    def name(self):
        return "keeper"


@pytest.mark.parametrize("detached", [True, False])
def test_a_taken_name_keeps_no_arguments(start, detached):
    """Neither those given as refs nor the refs inside others; detached ones would have kept them for ever."""
    start(num_cpus=1)
    first = Keeper.options(name="taken").remote(0)
    assert ray.get(first.name.remote(), timeout=20) == "keeper"
    lifetime = "detached" if detached else None
    value, inner = ray.put(bytes(200_000)), ray.put(bytes(200_000))
    for argument in (value, [inner]):
        with pytest.raises(ValueError, match="taken"):
            Keeper.options(name="taken", lifetime=lifetime).remote(argument)
    del argument, value, inner
    assert ray.get(first.name.remote(), timeout=20) == "keeper"
    del first  # the fixture sees whether anything is held
