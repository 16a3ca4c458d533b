"""``ray.get`` with a time limit, of objects that become ready just then."""

from __future__ import annotations

import re
import time

import pytest
from tests.api.one_session import nothing_left, session
from tests.quick import crossed

import ray
from ray.exceptions import GetTimeoutError

__all__ = ["nothing_left", "session"]


@ray.remote
def one():
    return 1


@pytest.mark.parametrize(("size", "timeout"), crossed([1, 300], [0, 0.0005]))
def test_what_is_ready_is_returned(timeout, size):
    """There is nothing to say of a limit that has passed while the last of them became ready."""
    end = time.monotonic() + 0.8
    while time.monotonic() < end:
        refs = [one.remote() for _ in range(size)]
        while True:
            try:
                values = ray.get(refs if size > 1 else refs[0], timeout=timeout)
            except GetTimeoutError as error:
                found = re.search(r"(\d+) of (\d+) objects? (?:are|is) not ready", str(error))
                assert size == 1 or (found and 1 <= int(found[1]) <= int(found[2]) == size)
            else:
                assert values == ([1] * size if size > 1 else 1)
                break


@ray.remote
def late(seconds):
    time.sleep(seconds)


@ray.remote
class Late:
    def call(self, seconds):
        time.sleep(seconds)


def test_the_error_names_the_tasks_that_are_late(session):
    if session == "local_mode":
        pytest.skip("nothing is late")
    call = Late.remote().call.remote(2)
    done = ray.put(1)
    cases = {
        "1 of 2 objects are not ready (late)": [done, late.remote(2)],
        "3 of 3 objects are not ready (late and Late.call)": [late.remote(2), late.remote(2), call],
        "6 of 6 objects are not ready (Late.call, job0, job1 and 3 more)": [
            call,
            *[late.options(name=f"job{index}").remote(2) for index in range(5)],
        ],
    }
    ray.get(done)
    for text, refs in cases.items():
        with pytest.raises(GetTimeoutError) as caught:
            ray.get(refs, timeout=0.1)
        assert f"{text}. " in str(caught.value)
    assert (caught.value.tasks, caught.value.others) == (["Late.call", "job0", "job1"], 3)
