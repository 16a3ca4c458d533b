"""``__notes__`` of an exception may be anything: the program puts there what it likes."""

import copy
import pickle

import pytest
from tests.api.one_session import nothing_left, session

import ray
from ray.exceptions import RayError

__all__ = ["nothing_left", "session"]

pytestmark = pytest.mark.usefixtures("session")
LIMIT_S = 30
KINDS = [5, ("a",), "text", None, [1], {"a": 1}]


@ray.remote
def raises(notes):
    error = ValueError("that is no number")
    error.__notes__ = notes
    raise error


@ray.remote
def passes_on(notes, refs):
    try:
        return ray.get(refs[0])
    except RayError as error:
        error.__notes__ = notes
        raise


def caught_from(ref):
    with pytest.raises(ValueError) as caught:  # "match" would look at the notes
        ray.get(ref, timeout=LIMIT_S)
    return caught.value


@pytest.mark.parametrize("notes", KINDS, ids=repr)
def test_of_what_a_task_raises(notes):
    error = caught_from(raises.remote(notes))
    for same in (error, pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert isinstance(same, ValueError)
        assert "that is no number" in str(same)


@pytest.mark.parametrize("notes", KINDS, ids=repr)
def test_of_an_error_that_a_task_passes_on(notes):
    error = caught_from(passes_on.remote(notes, [raises.remote(None)]))
    assert "that is no number" in str(error)
    error = caught_from(passes_on.remote([], [passes_on.remote(notes, [raises.remote(notes)])]))
    assert "that is no number" in str(pickle.loads(pickle.dumps(error)))


@pytest.mark.parametrize("notes", KINDS, ids=repr)
def test_of_an_error_in_the_program(notes):
    error = caught_from(raises.remote(None))
    error.__notes__ = notes
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert isinstance(same, ValueError)
        assert "that is no number" in str(same)
