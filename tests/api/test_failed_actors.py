"""Actors that cannot be made, or are gone: what their calls raise, and what is said where nobody calls them."""

import pickle
import time

import pytest
from tests.api.one_session import nothing_left, session

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

__all__ = ["nothing_left", "session"]


class Refused(Exception):
    def __init__(self, code, *, why):
        super().__init__(f"{code}: {why}")
        self.code = code


@ray.remote
class Failing:
    def __init__(self, text, kind=ValueError):
        if kind is Refused:
            raise Refused(7, why=text)
        raise kind(text)

    def get(self):
        return 1


@ray.remote
class Whole:
    def get(self):
        return 1

    def leave(self):
        ray.exit_actor()


def caught_from(ref, kind=RayActorError):
    with pytest.raises(kind) as caught:
        ray.get(ref, timeout=30)
    return caught.value


def rows_about(text, count=1):
    until = time.monotonic() + 20
    while True:
        rows = [row for row in ray.error_info() if text in row["message"]]
        if len(rows) >= count or time.monotonic() > until:
            return rows
        time.sleep(0.01)


def printed(capfd, text):
    """What is on stderr once ``text`` is."""
    shown, until = "", time.monotonic() + 20
    while text not in shown and time.monotonic() < until:
        shown += capfd.readouterr().err
        time.sleep(0.01)
    return shown


# --- nobody calls it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False])
def test_a_constructor_that_fails_is_told_of_though_nobody_calls_the_actor(session, capfd, keep):
    text = f"nobody asked, kept: {keep}"
    actor = Failing.remote(text)
    if not keep or session == "local_mode":  # there it may be called for as long as there is a handle
        del actor
        ray.put("the next call")
    shown = printed(capfd, text)
    [row] = rows_about(text)
    assert row["function"] == "Failing.__init__"
    assert row["type"] == "task"
    time.sleep(0.4)  # longer than a failure waits to be printed
    shown += capfd.readouterr().err
    assert shown.count(f"ValueError: {text} in Failing.__init__") == 1
    assert "Failing(" not in shown
    assert "raise kind(text)" in shown


def test_so_is_one_in_a_task(capfd):
    @ray.remote
    def make(text):
        Failing.remote(text)

    ray.get(make.remote("deeper down"))
    assert "ValueError: deeper down in Failing.__init__" in printed(capfd, "deeper down")
    assert rows_about("deeper down")


def test_a_constructor_runs_though_the_handle_is_dropped(tmp_path):
    @ray.remote
    class Writing:
        def __init__(self, path):
            path.write_text("done")

    for number in range(20):
        Writing.remote(tmp_path / str(number))
    until = time.monotonic() + 30
    while len(list(tmp_path.iterdir())) < 20 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(list(tmp_path.iterdir())) == 20


def test_what_a_call_has_raised_is_not_printed(session, capfd):
    error = caught_from(Failing.remote("was asked").get.remote())
    assert "was asked" in str(error)
    assert rows_about("was asked")
    if session != "local_mode":
        time.sleep(0.6)
    assert "was asked" not in capfd.readouterr().err


def test_what_its_calls_have_failed_with_is_told_once(session, capfd):
    """A call that nobody asks for tells it, and its constructor does not tell it again."""
    actor = Failing.remote("called")
    ref = actor.get.remote()
    ray.wait([ref])
    del actor, ref
    ray.put("the next call")
    shown = printed(capfd, "called")
    time.sleep(0.4)
    shown += capfd.readouterr().err
    assert shown.count("A task failed: ") == 1
    assert "Failing.get" in shown


# --- what its calls raise ---------------------------------------------------------------------------------------------


def test_the_error_is_that_of_the_actor_and_of_the_constructor():
    actor = Failing.remote("no luck", KeyError)
    for ref in (actor.get.remote(), actor.get.remote()):
        error = caught_from(ref)
        assert isinstance(error, KeyError)
        assert not isinstance(error, RayTaskError)
        assert type(error).__name__ == "RayActorError(KeyError)"
        assert type(error.__cause__) is KeyError
        assert error.__cause__.args == ("no luck",)
        assert error.actor_class == "Failing"
        text = str(error)
        assert "its __init__ raised; caused by KeyError: 'no luck'" in text
        assert "Remote traceback:\nTraceback (most recent call last):" in text
        assert "raise kind(text)" in text
        assert "max_restarts" not in text
        assert "get()" in text


def test_it_travels():
    @ray.remote
    def ask(actor):
        return ray.get(actor.get.remote())

    actor = Failing.remote("far away", Refused)
    for error in (caught_from(ask.remote(actor)), caught_from(actor.get.remote())):
        for again in (error, pickle.loads(pickle.dumps(error))):
            assert isinstance(again, RayActorError)
            assert isinstance(again, Refused)
            assert (again.code, again.__cause__.code) == (7, 7)
            assert again.args == ("7: far away",)
            assert "Refused: 7: far away" in str(again)


def test_what_steers_the_interpreter_stays_apart():
    error = caught_from(Failing.remote("stop", SystemExit).get.remote())
    assert not isinstance(error, SystemExit)
    assert "SystemExit: stop" in str(error)


def test_an_argument_that_failed():
    @ray.remote
    def fail():
        raise LookupError("no argument")

    error = caught_from(Failing.remote(fail.remote()).get.remote())
    assert isinstance(error, LookupError)
    assert "no argument" in str(error)
    assert "max_restarts" not in str(error)


def test_actors_that_were_ended_are_not_to_be_restarted():
    killed, left = Whole.remote(), Whole.remote()
    assert ray.get(killed.get.remote()) == 1
    ray.kill(killed)
    error = caught_from(killed.get.remote())
    assert "ray.kill() was called" in str(error)
    assert "max_restarts" not in str(error)
    left.leave.remote()
    error = caught_from(left.get.remote())
    assert "exit_actor() was called" in str(error)
    assert "max_restarts" not in str(error)


# --- what cannot be placed --------------------------------------------------------------------------------------------


def test_a_time_out_names_what_no_node_has(session):
    if session == "local_mode":
        pytest.skip("there nothing waits")
    here = ray.remote(lambda *given: 1)
    there, actor = here.options(num_gpus=4).remote(), Whole.options(resources={"disk": 3}).remote()
    cases = [(there, "<lambda>"), ([here.remote(), there], "<lambda>"), (here.remote(there), "<lambda>")]
    cases += [(actor.get.remote(), "actor Whole"), (here.remote([1], actor.get.remote()), "actor Whole")]
    assert ray.get(here.remote()) == 1
    assert rows_about("which no node has", 2)
    until = time.monotonic() + 20
    for waited_for, name in cases:
        while True:  # the driver may be told a moment after the record is there
            error = timed_out(waited_for)
            if error.reason or time.monotonic() > until:
                break
        assert name in error.reason
        assert ("'GPU': 4.0" if name == "<lambda>" else "'disk': 3.0") in str(error)
        assert "which no node has (this one has {'CPU': 4.0" in str(error)
        assert "start the session with more resources" in str(error)
    ray.cancel(there)
    ray.kill(actor)
    assert timed_out(ray.remote(time.sleep).remote(0.3)).reason == ""


def timed_out(refs):
    with pytest.raises(GetTimeoutError) as caught:
        ray.get(refs, timeout=0.05)
    return caught.value
