"""Failures that a coroutine has asked for are not printed, though another one was raised before them."""

import asyncio
import time

import pytest

import ray
from ray.experimental import async_api

TOLD = "[ray] A task failed: "


@ray.remote
def bad(text):
    raise ValueError(text)


@ray.remote
def bad_when(path):
    while not path.exists():
        time.sleep(0.01)
    raise ValueError("late")


async def of_list(*refs):
    await async_api.get(list(refs))


async def of_mixed(*refs):
    await async_api.get([*refs, 1])


async def gathered(*refs):
    await asyncio.gather(*(async_api.get(ref) for ref in refs))


def test_what_fails_beside_and_after_the_first(capfd, tmp_path):
    with ray.init(num_cpus=4):
        late = []
        for get in (of_list, of_mixed, gathered):
            late.append(bad_when.remote(tmp_path / "now"))
            with pytest.raises(ValueError, match="quick"):
                asyncio.run(get(bad.remote("quick"), bad.remote("quick"), late[-1]))
        (tmp_path / "now").touch()
        assert len(ray.wait(late, num_returns=len(late), timeout=30_000)[0]) == len(late)
        unasked = bad.remote("nobody asks")
        ray.wait([unasked])
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith(TOLD)]
    assert told == [f"{TOLD}ValueError: nobody asks in bad"]
