"""Many calls to an actor whose ``__init__`` has raised: each fails at once, without code of the user's."""

import os
import time

import pytest

import ray
from ray.exceptions import RayActorError

LIMIT_S = 60
#: Took 12 s once, of which 5.5 were of the processor.
MANY = 8000
#: What nobody asks for is printed before.
PRINTED_AFTER_S = 0.6


def unpickled(path, text):
    """What an ``Odd`` becomes that is unpickled; leaves a note of the process."""
    with open(path, "a") as notes:
        print(os.getpid(), file=notes)
    return Odd(path, text)


class Odd(Exception):
    def __init__(self, path, text):
        super().__init__(text)
        self.path, self.text = path, text

    def __reduce__(self):
        return unpickled, (self.path, self.text)


@ray.remote
class Failing:
    def __init__(self, path):
        raise Odd(path, "no, not today")

    def echo(self, value):
        return value


@ray.remote
class FailingLate:
    def __init__(self, path):
        while not path.exists():
            time.sleep(0.01)
        raise ValueError("no, not today")

    def echo(self): ...


def processes(path):
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_each_is_told_without_delay(start, tmp_path):
    start(num_cpus=1)
    actor = Failing.remote(str(tmp_path / "notes"))
    with pytest.raises(Odd):
        ray.get(actor.echo.remote(0), timeout=LIMIT_S)
    began = time.process_time()
    refs = [actor.echo.remote(number) for number in range(MANY)]
    assert len(ray.wait(refs, num_returns=MANY, timeout=LIMIT_S * 1000)[0]) == MANY
    with pytest.raises(RayActorError, match="no, not today"):
        ray.get(refs, timeout=LIMIT_S)
    assert time.process_time() - began < 3


def test_code_of_the_users_runs_where_somebody_asks(start, tmp_path):
    """Not in the thread that takes messages, under its lock."""
    start(num_cpus=1)
    path = tmp_path / "notes"
    actor = Failing.remote(str(path))
    refs = [actor.echo.remote(number) for number in range(5)]
    assert len(ray.wait(refs, num_returns=5, timeout=LIMIT_S * 1000)[0]) == 5
    refs += [actor.echo.remote(number) for number in range(5)]
    assert len(ray.wait(refs, num_returns=10, timeout=LIMIT_S * 1000)[0]) == 10
    assert os.getpid() not in processes(path)
    for ref in refs:
        with pytest.raises(Odd, match="no, not today") as caught:
            ray.get(ref, timeout=LIMIT_S)
        assert isinstance(caught.value, RayActorError)
        assert isinstance(caught.value.__cause__, Odd)
        assert "The call to echo() did not start" in str(caught.value)
    assert os.getpid() in processes(path)


def test_none_is_printed_that_a_get_under_way_raises(start, capfd, tmp_path):
    """One turn of the thread that polls, which is the one that asks, takes thousands of failures."""
    start(num_cpus=1)
    actor = FailingLate.remote(tmp_path / "now")
    refs = [actor.echo.remote() for _ in range(3 * MANY)]
    (tmp_path / "now").touch()
    with pytest.raises(RayActorError, match="no, not today"):
        ray.get(refs, timeout=LIMIT_S)
    time.sleep(PRINTED_AFTER_S)
    assert "A task failed" not in capfd.readouterr().err
