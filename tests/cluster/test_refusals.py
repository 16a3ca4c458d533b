"""Addresses, key files, passwords, certificates and versions that do not fit: one sentence for each, and an exit code.

Each case is tried by a program and by the command ``ray start``, as on another machine.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.commands import Machine
from tests.quick import first_of

from ray.runtime.cluster.control_server import open_link
from ray.runtime.cluster.key_file import read_key_file
from ray.runtime.cluster.registry import Meta

#: Prints of each ``[home, address]`` how a program and the command fail.
TRIES = """
import contextlib, io, json, traceback
from ray.cli import main

def program(address):
    try:
        ray.init(address=address, connect_timeout_s=2)
    except (ray.exceptions.RayError, ValueError):
        return traceback.format_exc()

def command(address):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(["start", "--address", address, "--num-cpus", "1"])
    return code, said.getvalue()

for home, address in json.load(sys.stdin):
    os.environ["RAY_HOME"] = home
    begun = time.monotonic()
    first = program(address)
    between = time.monotonic()
    print(json.dumps([first, *command(address), between - begun, time.monotonic() - between]), flush=True)
"""
#: A refusal takes a second; beside others' load it may take so long.
LIMIT_S = 8.0


def tried(machine: Machine, cases: list[tuple[Path, str]]) -> list[tuple[str, int, str]]:
    """What is said of each case: by a program, and by the command, with its exit code."""
    process = machine.program(TRIES)
    out, err = process.communicate(json.dumps([[str(home), address] for home, address in cases]), timeout=100)
    assert process.returncode == 0, err + out
    found = []
    for line in out.splitlines():
        trace, code, said, *took = json.loads(line)
        assert trace, "the program has joined something"
        assert trace.count("Traceback (most recent call last)") == 1, trace
        assert "During handling" not in trace, trace
        assert "direct cause" not in trace, trace
        files = [row for row in trace.splitlines() if row.startswith("  File ")]
        assert all('"<string>"' in row for row in files), trace
        assert said.startswith("ray: "), said
        assert "Traceback" not in said, said
        assert max(took) < LIMIT_S
        found.append((trace.splitlines()[-1], code, said))
    assert len(found) == len(cases)
    return found


@pytest.fixture
def head(machines: Callable[[], Machine]) -> Machine:
    machine = machines()
    machine.done("start", "--head", "--num-cpus", "1", "--node-name", "first")
    return machine


@pytest.fixture
def homes(tmp_path: Path) -> Callable[[str, Mapping[str, bytes]], Path]:
    """Make a folder for key files."""

    def make(name: str, files: Mapping[str, bytes]) -> Path:
        home = tmp_path / "homes" / name
        (home / "clusters").mkdir(parents=True, mode=0o700)
        for file, data in files.items():
            (home / "clusters" / file).write_bytes(data)
            os.chmod(home / "clusters" / file, 0o600)
        return home

    return make


def test_addresses(machines, homes, head) -> None:
    head.done("start", "--head", "--num-cpus", "1", "--name", "other")
    key = {f"{name}.json": head.key_path(name).read_bytes() for name in ("default", "other")}
    none, both = homes("none", {}), homes("both", key)
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        taken, free = (f"127.0.0.1:{each.getsockname()[1]}" for each in (silent, closed))
        cases = {
            "localhost": (none, 2, "address"),
            "10.0.0.5": (none, 2, "address"),
            "10.0.0.5:80": (none, 2, "address"),
            "http://10.0.0.5:6379": (none, 2, "address"),
            "default": (none, 3, "There is no cluster of the name 'default' (from "),
            "elsewhere": (both, 3, "those there are for default ("),
            "auto": (none, 3, "`ray start --head` starts a cluster on this machine"),
            taken: (none, 3, f"There is no key file for the cluster at {taken}"),
            free: (none, 3, f"No cluster answers at {free} (from "),
            "no.such.host.invalid:6379": (none, 3, "No cluster answers at no.such.host.invalid:6379 (from "),
        }
        found = tried(machines(), [(home, address) for address, (home, _, _) in cases.items()])
        found += tried(machines(), [(both, "auto")])
    cases["auto "] = (both, 3, "there are key files of 2 clusters in ")
    for (address, (_, code, text)), (trace, returned, said) in zip(cases.items(), found, strict=True):
        assert returned == code, (address, said)
        assert text in trace, (address, trace)
        assert text in said, (address, said)
    assert "RayConnectionError" in found[4][0]
    assert "`ray start --head` starts one on this machine" in found[4][2]
    assert "`ray start --head --name elsewhere` starts one" in found[5][2]


def test_key_files(machines, homes, head) -> None:
    text = head.key_path().read_bytes()
    key: dict[str, Any] = json.loads(text)
    address = head.address()

    def altered(**fields: Any) -> bytes:
        return json.dumps({**key, **fields}).encode()

    other = machines()
    other.done("start", "--head", "--num-cpus", "1")
    foreign = other.key()
    cases: dict[str, tuple[bytes, int, str]] = {
        "truncated": (text[:100], 2, "it is damaged, or cut short"),
        "empty": (b"", 2, "it is empty"),
        "large": (text + b" " * (1 << 21), 2, "it is too large for one"),
        "no JSON": (b"\x80\x04.", 2, "it is damaged, or cut short"),
        "version": (altered(version=99), 2, "it is of version 99, and this release reads"),
        "name": (altered(name="else"), 2, "it is that of cluster 'else', and bears the name of 'default'"),
        "mode": (text, 2, "its mode is 0644"),
        "symlink": (text, 2, "it is a symbolic link"),
        "folder": (text, 2, "others than you can put files into its folder"),
        "password": (altered(password="0" * 64), 1, "refuses it: "),
        "certificate": (altered(certificate=foreign["certificate"]), 1, "has another certificate"),
        "signature": (altered(hmac_key="00" * 32), 1, "was not signed with the keys of the cluster"),
        "session": (altered(session="0" * 16), 1, f"has session {key['session']}"),
        "cluster": (
            altered(**{**foreign, "port": key["port"], "control": key["control"]}),
            1,
            "has another certificate",
        ),
    }
    if os.geteuid() == 0:
        cases["owner"] = text, 2, "it belongs to user 12345, and you are user 0: make a copy of your own"
    made = {name: homes(name, {"default.json": data}) for name, (data, _, _) in cases.items()}
    os.chmod(made["mode"] / "clusters" / "default.json", 0o644)
    os.chmod(made["folder"] / "clusters", 0o770)
    (made["symlink"] / "clusters" / "default.json").rename(made["symlink"] / "moved")
    (made["symlink"] / "clusters" / "default.json").symlink_to(made["symlink"] / "moved")
    if os.geteuid() == 0:
        os.chown(made["owner"] / "clusters" / "default.json", 12345, -1)
    found = tried(machines(), [(home, address) for home in made.values()])
    for (name, (_, code, part)), (trace, returned, said) in zip(cases.items(), found, strict=True):
        assert returned == code, (name, said)
        assert part in trace, (name, trace)
        assert part in said, (name, said)
        for secret in (key["password"], key["hmac_key"], key["curve"]["client_secret"]):
            assert secret not in trace + said


@pytest.mark.parametrize("transport", first_of(["routed", "unix"]))
def test_other_versions(machines, homes, transport: str) -> None:
    """A cluster of another Python, another protocol or other parts; another patch level of the same fits."""
    if transport == "routed":
        pytest.importorskip("ray_transport_zmq")
    head = machines()
    head.environ["RAY_TRANSPORT"] = transport
    head.done("start", "--head", "--num-cpus", "1")
    home = homes("copy", {"default.json": head.key_path().read_bytes()})
    key = read_key_file(str(head.key_path()))
    name = f"ray:{{{key.name}}}:{key.session}:meta"
    link = open_link(key, 5.0)
    try:
        data = link.call("GET", name)
        assert isinstance(data, bytes)
        meta = msgspec.json.decode(data, type=Meta)
        plan = meta.plan.replace('"hybrid"', '"spread"')
        assert plan != meta.plan
        others = {
            "the nodes of the cluster have Python 3.5, and this one 3.": {"python": "3.5"},
            "the nodes of the cluster have protocol 7, and this one ": {"protocol": 7},
        }
        if transport == "unix":  # a program without a node takes the parts that the cluster has
            others["have other parts than this one: scheduler: spread"] = {"plan": plan, "digest": "0" * 32}
        for text, fields in others.items():
            link.call("SET", name, msgspec.json.encode(msgspec.structs.replace(meta, **fields)).decode())
            [(trace, code, said)] = tried(machines(), [(home, str(key.place))])
            assert code == 1, said
            assert text in said
            if transport == "routed":
                assert re.search(r"(run Python 3.5|have protocol 7), and this program (Python 3\.)?\d", trace), trace
        link.call("SET", name, data.decode())
    finally:
        link.close()


def test_choices_that_the_cluster_has_made(machine: Machine) -> None:
    """What was chosen here for this node and is another one's business is refused; what is the same is not."""
    pytest.importorskip("ray_transport_zmq")
    machine.done("start", "--head", "--num-cpus", "1", "--node-name", "first")
    machine.environ["RAY_TRANSPORT"] = "routed"
    said = machine.refused(1, "start", "--address", "auto", "--num-cpus", "1")
    assert said.startswith(f"ray: The cluster 'default' at {machine.address()} has transport='unix', which is the same")
    assert "and transport='routed' was chosen here (from environment RAY_TRANSPORT)" in said
    machine.environ["RAY_TRANSPORT"] = "unix"
    machine.environ["RAY_CONTROL"] = "embedded"
    for what in (("--address", "auto"), ("--head", "--name", "other")):
        said = machine.refused(1, "start", *what, "--num-cpus", "1")
        assert "A cluster has control='redis', which is the same on all its nodes, and control='embedded'" in said
    del machine.environ["RAY_CONTROL"]
    (machine.runtime / "ray.toml").write_text('transport = "zmq"\n')
    del machine.environ["RAY_TRANSPORT"]
    said = machine.refused(1, "start", "--address", "auto", "--num-cpus", "1")
    assert "and transport='zmq' was chosen here (from ray.toml)" in said
    (machine.runtime / "ray.toml").unlink()
    machine.done("start", "--address", "auto", "--num-cpus", "1")
    assert len(machine.status()["nodes"]) == 2
    assert machine.names() == ["default.json"]


def test_a_head_with_key_files_that_are_not_right(machine: Machine) -> None:
    """It starts nothing, and leaves the file as it is."""
    path = machine.key_path()
    path.parent.mkdir(parents=True, mode=0o700)
    cases = {"others can read it": (0o644, b"{}", "its mode is 0644"), "empty": (0o600, b"", "it is empty")}
    for mode, data, text in cases.values():
        path.write_bytes(data)
        os.chmod(path, mode)
        said = machine.refused(2, "start", "--head", "--num-cpus", "1")
        assert text in said
        assert "it is not overwritten: remove it, if no cluster needs it" in said
        assert path.read_bytes() == data
        path.unlink()
    for folder_mode in (0o777, 0o770):
        os.chmod(path.parent, folder_mode)
        machine.done("start", "--head", "--num-cpus", "1")
        assert os.stat(path.parent).st_mode & 0o777 == 0o700
        machine.done("stop")
    path.parent.rmdir()
    (machine.home / "elsewhere").mkdir(mode=0o700)
    path.parent.symlink_to(machine.home / "elsewhere")
    said = machine.refused(2, "start", "--head", "--num-cpus", "1")
    assert "it is a symbolic link" in said
    path.parent.unlink()
    assert [str(each) for each in machine.runtime.glob("ray-*/*")] == []
