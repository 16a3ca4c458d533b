"""What callers are told of calls that have failed."""

import pytest
from tests.workers import Worker

from ray.exceptions import RayActorError, TaskCancelledError, TaskTimeoutError
from ray.runtime.worker.actor_exit import ActorExit
from ray.runtime.worker.failing import Failing
from ray.serialization import open_envelope, read_envelope


class CancelledError(BaseException):
    pass


class Ending:
    def __init__(self):
        self.ends = []
        self.interrupted = []

    def run(self, code, reason, call):
        self.ends.append((code, reason, call))
        raise SystemExit(code)

    def interrupt_others(self, call):
        self.interrupted.append(call)


class Process:
    def __init__(self):
        self.worker = Worker()
        worker = self.worker
        self.ending = Ending()
        self.failing = Failing(
            worker.here,
            worker.desk,
            worker.actor,
            worker.life,
            worker.owner.values,
            worker.owner.reports,
            self.ending,
            lambda task: "named",
        )

    def outcome(self, error, **marks):
        """Of a call with such marks that has raised ``error``; it is kept as ``call``."""
        facts = marks.pop("facts", {})
        self.call = self.worker.start(1, **facts)
        for name, value in marks.items():
            setattr(self.call, name, value)
        outcome = self.failing.outcome_of(self.call, error)
        assert not outcome.ok
        [self.envelope] = outcome.blobs
        return outcome

    def error(self, error, **marks):
        self.outcome(error, **marks)
        return open_envelope(self.envelope)


@pytest.fixture
def process():
    return Process()


def test_an_error_of_the_users_code(process):
    error = process.error(ValueError("no"))
    assert isinstance(error, ValueError)
    assert read_envelope(process.envelope).kind == "user"


def test_a_call_without_a_name_yet_is_asked_for_it(process):
    error = process.error(ValueError("no"), name="")
    assert "named" in str(error)


@pytest.mark.parametrize(
    ("mark", "kind"), [("cancelled", TaskCancelledError), ("timed_out", TaskTimeoutError)], ids=str
)
def test_a_call_that_was_interrupted(process, mark, kind):
    error = process.error(KeyboardInterrupt(), **{mark: True})
    assert type(error) is kind
    assert read_envelope(process.envelope).kind == "system"


def test_a_call_that_is_interrupted_by_the_end_of_its_actor(process):
    process.worker.become_actor()
    process.worker.life.exiting = "exit_actor() was called"
    error = process.error(CancelledError())
    assert type(error) is RayActorError
    assert "exit_actor() was called" in str(error)


def test_a_retry_that_the_caller_has_asked_for(process):
    assert process.outcome(ValueError("no"), facts={"retry": b"*"}).retry
    assert not process.outcome(ValueError("no")).retry
    assert not process.outcome(KeyboardInterrupt(), facts={"retry": b"*"}, cancelled=True).retry


def test_a_method_that_ends_its_actor(process):
    process.worker.become_actor()
    error = process.error(ActorExit(), facts={"actor": b"actor"})
    assert type(error) is RayActorError
    assert read_envelope(process.envelope).kind == "orderly"
    assert process.worker.actor.announced == "exit_actor() was called"
    assert process.ending.interrupted == [process.call]


def test_a_method_that_ends_its_actor_with_a_code(process):
    process.worker.become_actor()
    with pytest.raises(SystemExit):
        process.outcome(SystemExit(3), facts={"actor": b"actor"})
    assert process.ending.ends == [(3, "sys.exit(3) was called", process.call.task.id)]
    assert not process.worker.actor.announced


def test_an_exit_of_a_task_is_an_error_like_others(process):
    assert isinstance(process.error(SystemExit(3)), BaseException)
    assert process.ending.ends == []


def test_a_call_always_answers(process):
    class Odd(Exception):
        @property
        def __cause__(self):
            raise ValueError

    assert process.outcome(Odd()).blobs
    process.failing._failure = None  # its code raises, whatever of it
    assert isinstance(process.error(ValueError("no")), ValueError)
