"""A process that finds a session does not end it."""

import pytest

import ray


@ray.remote
def double(x):
    return 2 * x


def library(x):
    with ray.init(ignore_reinit_error=True, num_cpus=1):
        return ray.get(double.remote(x))


@pytest.mark.parametrize("local_mode", [False, True], ids=["processes", "local_mode"])
def test_a_session_goes_on_after_the_context_of_a_repeated_init(local_mode):
    with ray.init(num_cpus=1, local_mode=local_mode):
        held = ray.put(4)
        assert library(2) == 4
        with pytest.raises(ZeroDivisionError), ray.init(ignore_reinit_error=True):
            _ = 1 / 0
        with ray.init(ignore_reinit_error=True):
            assert library(3) == 6
        assert ray.get(held) == 4
    assert not ray.is_initialized()


def test_who_starts_it_ends_it():
    assert library(2) == 4
    assert not ray.is_initialized()


def test_in_a_task_too():
    @ray.remote
    def inside():
        return library(4), ray.is_initialized()

    with ray.init(num_cpus=2):
        assert ray.get(inside.remote()) == (8, True)
        assert ray.get(inside.remote()) == (8, True)


def test_disconnect_ends_it_when_it_is_called():
    with ray.init(num_cpus=1):
        ray.init(ignore_reinit_error=True).disconnect()
        assert not ray.is_initialized()
