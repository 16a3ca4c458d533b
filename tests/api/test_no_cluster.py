"""Without a cluster: what a session of one machine says of what it does not have, and of addresses of none."""

import socket

import pytest
from tests.quick import first_of

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
            assert "As it is, it waits for ever." in row
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


@pytest.fixture(autouse=True)
def no_key_files(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_HOME", str(tmp_path))


def refusal(**given):
    with pytest.raises(RayConnectionError) as caught:
        ray.init(**given)
    return str(caught.value)


@pytest.mark.parametrize("name", ["address", "redis_address"])
def test_an_address_of_no_cluster(name, listening, deserted, no_address, tmp_path):
    for address, said in {
        listening: f"There is no key file for the cluster at {listening} (from {name}={listening!r}) in {tmp_path}",
        deserted: f"No cluster answers at {deserted} (from {name}={deserted!r})",
        "auto": f"{name}='auto' found no cluster: there is no key file in {tmp_path}",
    }.items():
        text = refusal(**{name: address})
        assert said in text
        assert text.endswith(" Call ray.init() without an address to start a session on this machine.")


def test_an_address_of_the_environment_is_to_be_taken_away(listening, deserted, monkeypatch):
    for address in (listening, deserted, "auto"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        for given in ({}, {"address": "auto"}):
            text = refusal(**given)
            assert "Unset RAY_ADDRESS, or call ray.init(address='local')" in text
            assert "without an address" not in text
    with ray.init(address="local", num_cpus=1):
        assert ray.is_initialized()


def test_how_long_an_answer_is_waited_for(listening, monkeypatch):
    monkeypatch.setattr("ray.runtime.cluster.attaching.socket.create_connection", _late)
    assert "timed out after 0.25" in refusal(address=listening, connect_timeout_s=0.25)
    assert "timed out after 5" in refusal(address=listening)
    for wrong, kind in ((-1, ValueError), ("1", TypeError), (float("nan"), ValueError)):
        with pytest.raises(kind, match="connect_timeout_s"):
            ray.init(address=listening, connect_timeout_s=wrong)
        for address in ("local", "unix:/nowhere"):
            with pytest.raises(kind, match="connect_timeout_s"):
                ray.init(address=address, connect_timeout_s=wrong)


def _late(place, timeout_s):
    raise TimeoutError(f"timed out after {timeout_s:.2g}")


ADDRESSES = ["auto", "local", "10.0.0.5", "10.0.0.5:80", "http://10.0.0.5:6379", "redis://:6379", "nonsense", " ", "4"]


def outcome(**given):
    """The type of the error and its text without the place where the address was given; or nothing."""
    try:
        with ray.init(local_mode="local" in given.values(), **given) as context:
            return type(context), ""
    except (RayConnectionError, ValueError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("address", first_of(ADDRESSES, 4))
def test_the_variable_is_treated_as_the_argument(address, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    kind, text = outcome(address=address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    for given in ({}, {"address": "auto"}):
        of_variable, said = outcome(**given)
        assert of_variable is kind
        assert ("RAY_ADDRESS=" in said) == (text != "")
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
