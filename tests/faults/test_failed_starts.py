"""Processes that end before they have come to the user's code cost no task and no actor anything, if they are few."""

from __future__ import annotations

import os

import pytest

import ray

TRANSPORT = "tests.faults.doomed_transport"


@ray.remote
class Doomed:
    """Named so that the transport finds it in what its worker is sent."""

    def __init__(self, notes=""):
        if notes:
            with open(notes, "a") as file:
                file.write(f"{os.getpid()}\n")

    def restarts(self):
        return ray.get_runtime_context().was_current_actor_reconstructed, os.getpid()

    def leave(self):
        os._exit(9)


@ray.remote
class AsyncDoomed:
    async def restarts(self):
        return ray.get_runtime_context().was_current_actor_reconstructed, os.getpid()


@pytest.fixture
def doom(tmp_path):
    """``doom(what, count)``: so many more workers are to end as they connect, or are sent what has this name."""
    folder = tmp_path / "doom"
    folder.mkdir()
    made = iter(range(1000))

    def doom(what, count):
        for _ in range(count):
            (folder / f"{what}.{next(made)}").touch()

    doom.folder = folder
    doom.options = {"transport": {"folder": str(folder)}}
    return doom


@pytest.fixture
def session(start, doom):
    start(num_cpus=2, store="heap", transport=TRANSPORT, options=doom.options, log_to_driver=False)
    return doom


def left(doom):
    return len(list(doom.folder.iterdir()))


def failed_starts():
    return [record["message"] for record in ray.error_info() if "failed to start" in record["message"]]


def test_workers_that_cannot_connect(start, doom):
    doom("connect", 3)
    start(num_cpus=2, store="heap", transport=TRANSPORT, options=doom.options, log_to_driver=False)
    actor = Doomed.remote()
    assert ray.get(actor.restarts.remote())[0] is False
    assert ray.get(ray.remote(max_retries=0)(lambda: "ran").remote()) == "ran"
    assert left(doom) == 0
    assert len(failed_starts()) == 3


def test_workers_that_end_before_they_have_begun_with_an_actor(session):
    for cls in (Doomed, AsyncDoomed, Doomed.options(max_concurrency=2)):
        session("Doomed", 3)
        assert ray.get(cls.remote().restarts.remote())[0] is False
        assert left(session) == 0
    assert ["exit code 7" in text and "doomed" in text for text in failed_starts()] == [True] * 9


def test_what_comes_after_that_runs_once(session, tmp_path):
    """An ``__init__``, whose actor keeps its name, and tasks, of which no retry is counted."""

    @ray.remote(max_retries=0)
    def doomed_task():
        return "ran"

    session("Doomed", 2)
    session("doomed_task", 2)
    assert ray.get([doomed_task.remote() for _ in range(4)]) == ["ran"] * 4
    notes = tmp_path / "notes"
    actor = Doomed.options(name="named").remote(str(notes))
    assert ray.get(ray.get_actor("named").restarts.remote()) == ray.get(actor.restarts.remote())
    assert notes.read_text() == f"{ray.get(actor.restarts.remote())[1]}\n"
    assert left(session) == 0


def test_it_does_not_go_on_for_ever(session):
    session("Doomed", 20)
    actor = Doomed.remote()
    with pytest.raises(ray.exceptions.RayActorError, match=r"exit code 7.* did not start"):
        ray.get(actor.restarts.remote())
    assert left(session) == 16


def test_restarts_are_counted_besides(session):
    session("Doomed", 5)
    actor = Doomed.options(max_restarts=1).remote()
    assert ray.get(actor.restarts.remote())[0] is True
    actor.leave.remote()
    with pytest.raises(ray.exceptions.RayActorError, match="exit code 9"):
        ray.get(actor.restarts.remote())
    assert left(session) == 0


def test_a_restart_whose_process_ends_before_it_has_begun(session):
    actor = Doomed.options(max_restarts=1, max_task_retries=-1).remote()
    before = ray.get(actor.restarts.remote())
    session("Doomed", 3)
    os.kill(before[1], 9)
    restarted, pid = ray.get(actor.restarts.remote())
    assert restarted
    assert pid != before[1]
    assert left(session) == 0


class Ending:
    """Ends the process that reads it."""

    def __init__(self, notes):
        self.notes = notes

    def __reduce__(self):
        return _end, (self.notes,)


def _end(notes=""):
    with open(notes, "a") as file:
        file.write("ended\n")
    os._exit(9)


@ray.remote
class EndsItself:
    def __init__(self, notes):
        _end(notes)

    def restarts(self):
        return None


def test_an_end_in_code_of_the_user_is_the_actors(session, tmp_path):
    """In ``__init__``, or where an argument is read."""
    notes = tmp_path / "notes"
    for cls, argument in ((EndsItself, str(notes)), (Doomed, Ending(str(notes)))):
        notes.unlink(missing_ok=True)
        actor = cls.remote(argument)
        with pytest.raises(ray.exceptions.RayActorError, match="exit code 9"):
            ray.get(actor.restarts.remote())
        assert notes.read_text() == "ended\n"
