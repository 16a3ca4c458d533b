"""One machine is all there is: no error talks as if another one could join, and each says what to do instead."""

import socket

import pytest

import ray
from ray.exceptions import GetTimeoutError, RayConnectionError
from ray.testing import eventually

JOINING = ("joins", "is running", "set the environment variable")

DEMANDS = {
    "num_gpus": ({"num_gpus": 1}, "ray.init(num_gpus=1)"),
    "num_cpus": ({"num_cpus": 2.5}, "ray.init(num_cpus=3)"),
    "memory": ({"memory": 1 << 48}, f"ray.init(memory={1 << 48})"),
    "resources": ({"num_cpus": 1, "resources": {"disk": 1.5}}, "ray.init(resources={'disk': 1.5})"),
    "several": ({"num_cpus": 4, "num_gpus": 2}, "ray.init(num_cpus=4, num_gpus=2)"),
}


@pytest.fixture
def no_address(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def reason_of(ref):
    with pytest.raises(GetTimeoutError) as caught:
        ray.get(ref, timeout=0.05)
    return caught.value.reason


def test_what_the_machine_does_not_have(no_address):
    with ray.init(num_cpus=2):
        refs = {}
        for name, (options, _) in DEMANDS.items():

            def wants():
                return 1

            wants.__qualname__ = wants.__name__ = f"wants_{name}"
            refs[name] = ray.remote(wants).options(**options).remote()

        def rows():
            return [row["message"] for row in ray.error_info() if row["type"] == "infeasible_task"]

        eventually(lambda: len(rows()) == len(DEMANDS), 30)
        for name, (_, call) in DEMANDS.items():
            [row] = [row for row in rows() if row.startswith(f"wants_{name} needs ")]
            assert f"ask for less, or start the session with more resources, as with {call}. " in row
            assert "for ever: this release has no clusters" in row
            assert not [word for word in JOINING if word in row]
            eventually(lambda name=name: reason_of(refs[name]), 30)
            assert f"as with {call}." in reason_of(refs[name])
        for ref in refs.values():
            ray.cancel(ref)


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def deserted():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"127.0.0.1:{port}"


def refusal(**given):
    with pytest.raises(RayConnectionError) as caught:
        ray.init(**given)
    text = str(caught.value)
    assert "clusters are not in this release" in text
    assert not [word for word in JOINING if word in text]
    return text


@pytest.mark.parametrize("name", ["address", "redis_address"])
def test_an_address_cannot_be_joined(name, listening, deserted, no_address):
    for address in (listening, deserted, "auto"):
        assert "Call ray.init() without an address to start a session on this machine." in refusal(**{name: address})


def test_an_address_of_the_environment_is_to_be_taken_away(listening, deserted, monkeypatch):
    for address in (listening, deserted):
        monkeypatch.setenv("RAY_ADDRESS", address)
        for given in ({}, {"address": "auto"}):
            text = refusal(**given)
            assert "Unset RAY_ADDRESS, or call ray.init(address='local')" in text
            assert "without an address" not in text
    with ray.init(address="local", num_cpus=1):
        assert ray.is_initialized()


ADDRESSES = ["auto", "local", "10.0.0.5", "10.0.0.5:80", "http://10.0.0.5:6379", "redis://:6379", "nonsense", " ", "4"]


def outcome(**given):
    """The type of the error and its text without the place where the address was given; or nothing."""
    try:
        with ray.init(num_cpus=1, **given) as context:
            return type(context), ""
    except (RayConnectionError, ValueError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("address", ADDRESSES)
def test_the_variable_is_treated_as_the_argument(address, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    kind, text = outcome(address=address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    for given in ({}, {"address": "auto"}):
        of_variable, said = outcome(**given)
        assert of_variable is kind
        assert ("RAY_ADDRESS=" in said) == (text != "")
        assert "is not set" not in said
        assert "num_cpus" not in said
    if address == "auto":
        assert "Unset RAY_ADDRESS, or call ray.init(address='local')" in said
    with ray.init(address="local", num_cpus=1):
        assert ray.is_initialized()


def test_auto_may_be_the_session_there_is(monkeypatch):
    for variable in ("auto", ""):
        monkeypatch.setenv("RAY_ADDRESS", variable)
        with ray.init(address="local", local_mode=True) as context:
            for given in (None, "auto"):
                assert dict(ray.init(given, ignore_reinit_error=True)) == dict(context)


def test_local_mode_takes_no_notice_of_the_variable(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with ray.init(local_mode=True):
        assert ray.is_initialized()


def test_a_number_of_cpus_for_an_address(no_address):
    with pytest.raises(ValueError, match=r"address='4'.*ray\.init\(num_cpus=4\)"):
        ray.init("4")
