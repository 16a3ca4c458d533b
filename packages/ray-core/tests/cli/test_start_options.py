"""What ``ray start`` and its like are told, and what they say of what cannot be; nothing is started by these tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile

import pytest

from ray.cli import cluster_values, main
from ray.protocol.resources import UNIT
from ray.testing import leaks

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_HOME", str(tmp_path / "home"))
    runtime = tempfile.mkdtemp(prefix="r", dir="/tmp")  # short enough for sockets, and so it is taken
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    monkeypatch.delenv("RAY_CONTROL_FILE", raising=False)
    before = leaks.snapshot()
    yield tmp_path / "home"
    leaks.assert_clean(before)
    shutil.rmtree(runtime)
    assert not os.path.exists(tmp_path / "home" / "clusters") or not os.listdir(tmp_path / "home" / "clusters")


@pytest.fixture
def ray(home, capsys):
    """Run the command in this process; returns its code and what it says on stderr."""

    def run(*arguments):
        code = main(arguments)
        said = capsys.readouterr()
        assert said.out == ""
        assert "Traceback" not in said.err
        return code, said.err

    return run


# --- values ---


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("1048576", MIB),
        ("512KiB", 512 * KIB),
        ("512MiB", 512 * MIB),
        ("2GiB", 2 * GIB),
        ("2 gib", 2 * GIB),
        ("1.5GiB", 3 * GIB // 2),
        ("10B", 10),
    ],
)
def test_sizes(text, nbytes):
    assert cluster_values.size(text) == nbytes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2GB", "'2GB' is not clear: say 2GiB"),
        ("2g", "say 2GiB"),
        ("64m", "say 64MiB"),
        ("-1", "'-1' is no size, such as 512MiB"),
        ("", "is no size"),
        ("GiB", "is no size"),
        ("1e9", "is no size"),
        ("1PiB", "is no size"),
        ("one", "is no size"),
    ],
)
def test_what_is_no_size(text, said):
    with pytest.raises(ValueError, match=said):
        cluster_values.size(text)


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("disk=2", {"disk": 2 * UNIT}),
        ("disk=2,net=0.5", {"disk": 2 * UNIT, "net": UNIT // 2}),
        (' {"disk": 2, "a b": 1.5} ', {"disk": 2 * UNIT, "a b": 3 * UNIT // 2}),
        ("{}", {}),
        ("disk=0", {}),
    ],
)
def test_resources(text, amounts):
    assert cluster_values.resources(text) == amounts


def test_labels_and_ports():
    assert cluster_values.labels("zone=a, kind=big-1.x") == {"zone": "a", "kind": "big-1.x"}
    assert cluster_values.port_range("20000-20100") == (20000, 20100)
    assert cluster_values.cpus("1.5") == 3 * UNIT // 2
    assert cluster_values.gpus("0.5") == UNIT // 2


# --- wrong usage ---

HEAD = {
    "--num-cpus -1": "num_cpus=-1.0",
    "--num-cpus many": "num_cpus='many' is no number",
    "--num-cpus nan": "nonnegative and finite",
    "--control-timeout nan": "'nan' is no time from 0.1 to 86400 seconds",
    "--control-timeout inf": "'inf' is no time from 0.1 to 86400 seconds",
    "--control-timeout 0": "'0' is no time from 0.1 to 86400 seconds",
    "--control-timeout soon": "SECONDS='soon' is no number",
    "--num-gpus 1.5": "above 1 it must be a whole number",
    "--num-gpus 20000": "--num-gpus must be at most 10000",
    "--resources disk": "'disk' in 'disk' is no NAME=VALUE, such as disk=2,net=1",
    "--resources disk=x": "disk='x' is no number",
    "--resources disk=-1": "nonnegative",
    "--resources CPU=1": "use the argument num_cpus= instead",
    "--resources disk=1,disk=2": "'disk' is in 'disk=1,disk=2' twice",
    '--resources {"disk":1,"disk":2}': "twice",
    "--host=": "--host: give an address of this machine, ",
    "--resources {": "is no JSON",
    "--resources [1]": "is no NAME=VALUE",
    '--resources {"disk":"x"}': "must be a number",
    "--labels zone": "is no NAME=VALUE, such as zone=a",
    "--labels zone=a/": "'a/' is no label",
    "--object-store-memory 1MB": "say 1MiB",
    "--object-store-memory 1KiB": "--object-store-memory must be at least 1,048,576 bytes, not 1,024",
    "--memory 8192TiB": "--memory=9007199254740992 is above the largest amount that counts",
    "--object-store-memory 8192TiB": "--object-store-memory=9007199254740992 is above the largest amount",
    "--memory much": "'much' is no size",
    "--port 80": "'80' is no port from 1024 to 65535",
    "--port x": "'x' is no port",
    "--redis-port 70000": "'70000' is no port",
    "--port-range 20000": "is no range of ports, such as 20000-20100",
    "--port-range 20100-20000": "ends before it begins",
    "--port-range 80-90": "'80' is no port",
    "--num-cpus 4 --port-range 20000-20009": "holds 10 ports, and a node of 4 CPUs needs 11: 3 and 2 for each CPU",
    "--name Wrong": "'Wrong' is no name of a cluster: up to 40 of a-z 0-9 . _ -, the first a letter or digit",
    "--name .x": "is no name of a cluster",
    f"--name {'x' * 41}": "is no name of a cluster",
    "--node-name a,b": "is no name: up to 63",
    "--host 0.0.0.0": "--host: 0.0.0.0 means all addresses of this machine",
    "--host 198.51.100.7": "--host: 198.51.100.7 is no address of this machine",
    "--host no.such.host.invalid": "is no address, no known name and no interface",
    "--control http://x": "the URL of a control server is redis://host:6379",
    "--control redis://:secret@h": "a password on the command line can be seen by all users",
    "--control redis://h --control-file x": "--control and --control-file are the same option",
    "--control redis://h --port 7000": "--port is that of a control server which is started",
    "--control-file /no/such": "--control-file /no/such: ",
    "--data-encryption rot13": "'rot13' is not one of 'auto', 'aes-gcm', 'none'",
    "--key-file -": "--key-file of a head is where it writes the file",
    "--address 127.0.0.1:6379": "--head and --address exclude each other",
    "--nonsense": "--nonsense",
}


@pytest.mark.parametrize("given", HEAD)
def test_a_head_that_cannot_be(ray, given):
    code, said = ray("start", "--head", *given.split())
    assert code == 2, said
    assert HEAD[given] in said
    assert "secret" not in said
    assert said.endswith("`ray start --help` shows what can be given.\n")


JOIN = {
    "": "say which cluster: --head starts a new one, --address HOST:PORT joins one that is there",
    "--num-cpus 2": "say which cluster",
    "--address 127.0.0.1": "an address is HOST:PORT with a port from 1024 to 65535",
    "--address ::1:6379": "such as 10.0.0.5:6379 or [::1]:6379",
    "--address 127.0.0.1:80": "an address is HOST:PORT",
    "--address redis://:secret@h:2000": "--address redis://***@h:2000: an address is HOST:PORT",
    "--redis-address 10.0.0.5:6379 --port 7000": "--port can be said to --head only, for the whole cluster",
    "--address h:6379 --name x --control redis://h": "--name and --control can be said to --head only",
    "--address h:6379 --data-encryption none": "--data-encryption can be said to --head only",
    "--address h:6379 --num-cpus 4 --port-range 20000-20009": "a node of 4 CPUs needs 11",
}


@pytest.mark.parametrize("given", JOIN)
def test_a_node_that_cannot_join(ray, given):
    code, said = ray("start", *given.split())
    assert code == 2, said
    assert JOIN[given] in said
    assert "secret" not in said


NOT_THERE = {
    "start --address 127.0.0.1:{port}": "No cluster answers at 127.0.0.1:{port} (from --address 127.0.0.1:{port})",
    "start --redis-address no.such.host.invalid:6379": "No cluster answers at no.such.host.invalid:6379",
    "start --address auto": "--address auto found no cluster: there is no key file in ",
    "start --address someone": "There is no cluster of the name 'someone' (from --address someone): no key file for it",
    "stop": "no node of a cluster runs here (of this user, on this machine)",
    "stop --name other": "no node of a cluster 'other' runs here",
    "stop --address 127.0.0.1:{port}": "no node of a cluster at 127.0.0.1:{port} runs here",
    "status": "no node of a cluster runs here",
    "status --name other --format json": "no node of a cluster 'other' runs here",
}


@pytest.mark.parametrize("given", NOT_THERE)
def test_nobody_is_there(ray, free_port, given):
    code, said = ray(*given.format(port=free_port).split())
    assert code == 3, said
    assert said.startswith(f"ray: {NOT_THERE[given].format(port=free_port)}")
    assert said.count("\n") == 1


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_key_file_is_missing_where_somebody_answers(ray, home):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        code, said = ray("start", "--address", place)
    assert code == 3
    assert f"There is no key file for the cluster at {place}" in said
    assert f"scp '127.0.0.1:.ray/clusters/NAME.json' {home}/clusters/" in said


def test_a_key_file_that_cannot_be_used(ray, tmp_path):
    path = tmp_path / "k.json"
    code, said = ray("start", "--key-file", str(path))
    assert (code, said) == (2, f"ray: The key file {path} cannot be used: there is no such file.\n")
    path.write_text("{}")
    os.chmod(path, 0o644)
    code, said = ray("start", "--key-file", str(path))
    assert code == 2
    assert "its mode is 0644" in said
    os.chmod(path, 0o600)
    code, said = ray("start", "--key-file", str(path), "--address", "127.0.0.1:6379")
    assert code == 2
    assert "it is damaged, or cut short" in said


def test_nothing_comes_in_time(ray):
    code, said = ray("wait", "--nodes", "2", "--gpus", "1", "--resources", "disk=2", "--timeout", "0.1")
    assert (code, said) == (4, "ray: after 0.1 s, the cluster has 0 of 2 nodes and 0 of 1 GPU and 0 of 2 disk\n")
    wrong = (
        "--nodes 0, --nodes 1.5, --nodes inf, --gpus -1, --gpus nan, --gpus inf, --cpus nan, --cpus -1, --cpus inf, "
        "--cpus -inf, --cpus 1e400, --timeout -1, --timeout nan, --resources x, "
        "--resources disk=inf, --resources disk=-1"
    )
    for each in wrong.split(", "):
        code, said = ray("wait", "--timeout", "0.1", *each.split())
        assert code == 2, (each, said)


def test_without_what_guards_it_no_node_is_reached_from_outside(ray, monkeypatch):
    """And none is encrypted without what encrypts."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("ray.cli.node_of_options.own_host", lambda given: given)
    code, said = ray("start", "--head", "--host", "198.51.100.7")
    assert code == 1
    assert "not installed here: ray-transport-zmq, redis, cryptography. pip install 'ray-core[cluster]'" in said
    code, said = ray("start", "--head", "--data-encryption", "aes-gcm")
    assert code == 1
    assert "--data-encryption aes-gcm needs the package cryptography" in said
    for start in (["--head"], ["--address", "127.0.0.1:6379"]):
        code, said = ray("start", *start)
        assert code == 1
        assert "A cluster needs packages that are not installed here: redis, cryptography." in said


def test_without_a_server_nothing_starts(ray, monkeypatch, tmp_path):
    pytest.importorskip("redis")
    monkeypatch.setenv("PATH", str(tmp_path))
    code, said = ray("start", "--head")
    assert code == 2
    assert "neither redis-server nor valkey-server is on PATH; install one: apt-get install" in said
