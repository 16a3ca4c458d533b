"""Errors of tasks: their classes, texts and records; cancellation, retries, time-outs."""

import logging
import os
import time

import pytest

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError, TaskTimeoutError, WorkerCrashedError

pytestmark = pytest.mark.usefixtures("ray_session")


class CustomError(Exception):
    def __init__(self, code, *, detail):
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@ray.remote
def fail(kind, *args):
    raise kind(*args)


@ray.remote
def echo(x):
    return x


def caught_from(ref):
    with pytest.raises(RayError) as caught:
        ray.get(ref, timeout=30)
    return caught.value


def test_the_error_is_both_kinds():
    error = caught_from(fail.remote(KeyError, "k"))
    assert isinstance(error, KeyError)
    assert isinstance(error, RayTaskError)
    assert isinstance(error.__cause__, KeyError)
    assert error.__cause__.args == ("k",)
    assert error.function_name == "fail"
    assert "raise kind(*args)" in str(error)
    assert __file__ in str(error)
    assert error.pid > 0
    assert error.attempt == 0


def test_attributes_of_the_original_are_kept():
    @ray.remote
    def custom():
        raise CustomError(7, detail="d")

    error = caught_from(custom.remote())
    assert isinstance(error, CustomError) or "CustomError" in error.cause_type
    assert "7: d" in str(error)


def test_chains_show():
    @ray.remote
    def chained():
        try:
            raise OSError("below")
        except OSError as error:
            raise ValueError("above") from error

    error = caught_from(chained.remote())
    assert isinstance(error, ValueError)
    assert "below" in str(error)


def test_each_get_raises_afresh():
    ref = fail.remote(ValueError, "v")
    assert caught_from(ref) is not caught_from(ref)


def test_failures_pass_through_dependents():
    first = fail.remote(KeyError, "origin")
    last = echo.remote(echo.remote(first))
    error = caught_from(last)
    assert isinstance(error, KeyError)
    assert "origin" in str(error)


def test_errors_of_inner_gets_pass_through():
    @ray.remote
    def outer():
        return ray.get(fail.remote(KeyError, "inner"))

    error = caught_from(outer.remote())
    assert isinstance(error, KeyError)
    assert "inner" in str(error)


def test_every_result_of_a_failed_task_fails():
    for ref in fail.options(num_returns=3).remote(ValueError, "v"):
        assert isinstance(caught_from(ref), ValueError)


def test_results_that_cannot_be_pickled():
    @ray.remote
    def lock():
        import threading

        return threading.Lock()

    assert isinstance(caught_from(lock.remote()), TypeError)


def records(count):
    until = time.monotonic() + 10
    while len(ray.error_info()) < count and time.monotonic() < until:
        time.sleep(0.01)
    return ray.error_info()


def test_error_info():
    assert ray.error_info() == []
    before = time.time()
    ref = fail.remote(ValueError, "recorded")
    (record,) = records(1)
    assert record["type"] == "task"
    assert "recorded" in record["message"]
    assert "fail" in record["message"]
    assert before - 1 <= record["timestamp"] <= time.time() + 1
    assert record["task_id"] == ref.task_id().hex()
    record["type"] = "changed"
    assert ray.error_info()[0]["type"] == "task"


def test_error_info_of_jobs():
    fail.remote(ValueError, "recorded")
    job = ray.get_runtime_context().job_id
    assert records(1) == ray.error_info(job) == ray.error_info(job_id=job)
    assert ray.error_info(job_id="ffffffff") == []
    for wrong in ("", "1", "FFFFFFFF", "errors:1"):
        with pytest.raises(ValueError, match="job_id must be 8 hexadecimal digits"):
            ray.error_info(job_id=wrong)
    with pytest.raises(TypeError, match="job_id must be a string"):
        ray.error_info(job_id=1)


def test_a_failure_is_printed_once(capfd, caplog):
    with caplog.at_level(logging.ERROR, "ray"):
        fail.remote(ValueError, "printed once")
        records(1)
        until = time.monotonic() + 10
        shown = ""
        while "printed once" not in shown and time.monotonic() < until:
            shown += capfd.readouterr().err + caplog.text
            time.sleep(0.01)
    assert shown.count("[ray] A task failed: ValueError: printed once in fail") == 1


@pytest.mark.slow
def test_failures_that_are_got_soon_are_not_printed(capfd, caplog, monkeypatch):
    """However many there are: the time of each is its own."""
    monkeypatch.setattr("ray.runtime.owner.reports.PRINT_AFTER_S", 2.0)
    with caplog.at_level(logging.ERROR, "ray"):
        for _ in range(50):
            ref = fail.remote(ValueError, "expected")
            ray.wait([ref])
            time.sleep(0.05)
            with pytest.raises(ValueError, match="expected"):
                ray.get(ref)
        assert "expected" not in capfd.readouterr().err + caplog.text


# --- retries and limits ---


def test_retry_exceptions(tmp_path):
    path = tmp_path / "runs"

    @ray.remote(max_retries=3, retry_exceptions=[OSError])
    def flaky(until, kind):
        with open(path, "a") as file:
            file.write("x")
        attempt = ray.get_runtime_context().attempt
        if attempt < until:
            raise kind("again")
        return attempt

    assert ray.get(flaky.remote(2, OSError)) == 2
    assert path.read_text() == "xxx"
    path.unlink()
    error = caught_from(flaky.remote(9, OSError))
    assert isinstance(error, OSError)
    assert error.attempt == 3
    assert path.read_text() == "xxxx"
    path.unlink()
    assert isinstance(caught_from(flaky.remote(9, ValueError)), ValueError)
    assert path.read_text() == "x"
    assert ray.get(flaky.options(retry_exceptions=True, max_retries=-1).remote(4, ValueError)) == 4


def test_exceptions_are_not_retried_unless_asked(tmp_path):
    path = tmp_path / "runs"

    @ray.remote
    def once():
        with open(path, "a") as file:
            file.write("x")
        raise ValueError

    caught_from(once.remote())
    assert path.read_text() == "x"


def test_time_limit():
    @ray.remote(timeout_s=0.1)
    def slow():
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            time.sleep(0.01)

    error = caught_from(slow.remote())
    assert isinstance(error, TaskTimeoutError)
    assert isinstance(error, TimeoutError)


def test_worker_death(mode):
    if mode == "local_mode":
        return

    @ray.remote(max_retries=0)
    def die():
        os._exit(7)

    error = caught_from(die.remote())
    assert isinstance(error, WorkerCrashedError)
    assert "exit code 7" in str(error)
    assert ray.get(echo.remote(1)) == 1


# --- cancel ---


def test_cancel_of_what_has_ended_does_nothing():
    done, stored = echo.remote(1), ray.put(2)
    assert ray.get(done) == 1
    ray.cancel(done)
    ray.cancel([done, stored], force=True)
    ray.cancel((done,), recursive=False)
    ray.cancel([])
    assert ray.get([done, stored]) == [1, 2]


def test_cancel_of_what_runs_or_waits(mode):
    if mode == "local_mode":
        return

    @ray.remote(num_cpus=4)
    def slow():
        time.sleep(30)

    running, queued = slow.remote(), slow.remote()
    assert ray.wait([running], timeout=300)[0] == []
    ray.cancel([queued, running])
    for ref in (queued, running):
        assert isinstance(caught_from(ref), TaskCancelledError)
    assert isinstance(caught_from(echo.remote(queued)), TaskCancelledError)
    assert ray.get(echo.remote(1), timeout=30) == 1


def test_bad_arguments_of_cancel():
    ref = echo.remote(1)
    for wrong in (3, None, "x", {ref}):
        with pytest.raises(TypeError, match="expected an object ref or a list of object refs"):
            ray.cancel(wrong)
    with pytest.raises(TypeError, match="element 1 is 3"):
        ray.cancel([ref, 3])
    with pytest.raises(TypeError, match="force must be True or False, not 1"):
        ray.cancel(ref, force=1)
    with pytest.raises(TypeError, match="recursive must be True or False"):
        ray.cancel(ref, recursive=None)
