"""What a session can choose, and what is refused before anything is started."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from ray.builtin.redis_control.binary import check_version, find_server
from ray.builtin.redis_control.commands import COMMANDS, acl_rules
from ray.builtin.redis_control.options import VARIABLE, RedisOptions
from ray.builtin.redis_control.settings import ServerSettings
from ray.exceptions import PluginOptionsError
from ray.plugins import resolve_plan


def write(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def program(path: Path, says: str) -> str:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "redis://u:secret@h"}, "give file="),
        ({"url": "redis://h", "file": "x"}, "the same option"),
        ({"url": "nonsense"}, "is redis://host:6379"),
        ({"name": "No Name"}, "up to 40"),
        ({"memory_bytes": 1}, "at least"),
        ({"port": 70000}, "port=70000"),
        ({"host": "a b"}, "is no address"),
        ({"nmae": "x"}, "Did you mean 'name'"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    pytest.importorskip("redis")
    with pytest.raises(PluginOptionsError, match=said) as caught:
        resolve_plan(control="redis", options={"control": options})
    assert "secret" not in str(caught.value)


def test_a_machine_without_a_server_is_told_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("redis")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("RAY_REDIS_SERVER", raising=False)
    with pytest.raises(PluginOptionsError) as caught:
        resolve_plan(control="redis")
    assert str(caught.value) == (
        "control='redis': neither redis-server nor valkey-server is on PATH; install one: "
        "apt-get install -y --no-install-recommends redis-server"
    )
    resolve_plan(control="redis", options={"control": {"url": "redis://10.0.0.5"}})  # needs none


def test_servers_are_looked_for_on_the_path_and_by_a_variable(tmp_path: Path) -> None:
    valkey = program(tmp_path / "valkey-server", "Valkey server v=8.0.1 sha=0")
    found = shutil.which
    shutil.which = lambda name, *rest, **more: found(name, path=str(tmp_path)) if "/" not in name else found(name)
    try:
        assert find_server({}) == valkey
        redis = program(tmp_path / "redis-server", "Redis server v=7.0.15 sha=0")
        assert find_server({}) == redis
        assert find_server({"RAY_REDIS_SERVER": valkey}) == valkey
        with pytest.raises(ValueError, match="RAY_REDIS_SERVER names 'none'"):
            find_server({"RAY_REDIS_SERVER": "none"})
    finally:
        shutil.which = found
    assert check_version(valkey) == (8, 0)
    assert check_version(redis) == (7, 0)


def test_old_servers_are_refused(tmp_path: Path) -> None:
    old = program(tmp_path / "old", "Redis server v=6.2.14 sha=0")
    with pytest.raises(ValueError, match=r"old is version 6\.2, and Redis 7\.0 .* install a newer one"):
        check_version(old)
    with pytest.raises(ValueError, match="is no Redis or Valkey server"):
        check_version(program(tmp_path / "other", "hello"))
    with pytest.raises(ValueError, match="cannot be run"):
        check_version(str(tmp_path / "missing"))


def test_the_file_has_the_password(tmp_path: Path) -> None:
    path = write(tmp_path / "url", "redis://ray:p%40ss@h:7000\nand more\n")
    access = RedisOptions(file=path, name="mine").existing("")
    assert access is not None
    assert (access.hosts, access.user, access.password, access.name) == ([("h", 7000)], "ray", "p@ss", "mine")
    assert RedisOptions(name="mine").existing(path) == access
    other = RedisOptions(url="redis://other").existing(path)
    assert other is not None
    assert other.where == "redis://other:6379"
    assert RedisOptions().existing("") is None


def test_the_variable_counts_where_nothing_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("redis")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "missing"))
    with pytest.raises(PluginOptionsError, match=r"cannot read .*missing"):
        resolve_plan(control="redis")


def test_certificates_are_for_tls(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.write_text("PEM")
    access = RedisOptions(url="rediss://h", ca_file=str(pem)).existing("")
    assert access is not None
    assert access.certificate == "PEM"
    with pytest.raises(ValueError, match="ca_file is for rediss"):
        RedisOptions(url="redis://h", ca_file=str(pem)).existing("")
    with pytest.raises(ValueError, match="cannot read"):
        RedisOptions(url="rediss://h", ca_file=str(tmp_path / "none")).existing("")


def test_the_configuration_lets_in_one_user_on_one_socket() -> None:
    text = ServerSettings(folder="/tmp/r'\" \n", name="mine", password="secret").text()
    lines = text.splitlines()
    assert "secret" not in text
    assert "port 0" in lines
    assert not [line for line in lines if line.startswith(("bind", "tls"))]
    assert 'dir "/tmp/r\'\\x22 \\x0a"' in lines
    assert "user default off resetpass ~* &* +@all" in lines
    hashed = hashlib.sha256(b"secret").hexdigest()
    assert f"user ray on #{hashed} {acl_rules('mine')}" in lines
    assert acl_rules("mine") == (
        "resetkeys ~ray:{mine}:* resetchannels &ray:{mine}:* -@all " + " ".join(f"+{name}" for name in COMMANDS)
    )
    assert "maxmemory 268435456" in lines
    assert {"appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction"} <= set(lines)


def test_others_are_let_in_with_tls_only() -> None:
    lines = ServerSettings(folder="/f", name="mine", password="secret", host="10.0.0.5", port=7000).text().splitlines()
    assert {"port 0", "bind 10.0.0.5", "tls-port 7000"} <= set(lines)


def test_choosing_it_loads_no_library() -> None:
    pytest.importorskip("redis")
    resolve_plan(control="redis", options={"control": {"url": "redis://h"}})
    import subprocess

    code = "import ray.builtin.redis_control.handle, ray.builtin.redis_control.own, sys; print('redis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout == "False\n"
