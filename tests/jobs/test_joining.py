"""What ``ray.init`` refuses when it is to join a session that runs, and what it says then."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.nodes import Node

import ray
from ray.exceptions import IncompatiblePluginsError, RayConnectionError


def refused(*arguments: object, **options: object) -> str:
    with pytest.raises(RayConnectionError) as caught:
        ray.init(*arguments, **options)  # type: ignore[arg-type]
    assert not ray.is_initialized()
    return str(caught.value)


def test_a_directory_without_a_session(tmp_path: Path) -> None:
    assert "no running session has its directory" in refused(f"unix:{tmp_path}")
    assert "no running session has its directory" in refused(f"unix:{tmp_path / 'missing'}")
    assert "no running session has its directory" in refused("unix:")
    (tmp_path / "session.json").write_text("no facts")
    assert "no running session has its directory" in refused(f"unix:{tmp_path}")


def test_a_session_that_has_ended(started: Node) -> None:
    address, session_dir = started.address, Path(started.session_dir)
    facts = (session_dir / "session.json").read_bytes()
    started.started.stop()
    assert "no running session" in refused(address)
    session_dir.mkdir()
    (session_dir / "session.json").write_bytes(facts)
    try:
        assert f"has ended: process {started.started.pid} is gone" in refused(address)
    finally:
        (session_dir / "session.json").unlink()
        session_dir.rmdir()


def test_another_python(started: Node) -> None:
    path = Path(started.session_dir) / "session.json"
    facts = json.loads(path.read_bytes())
    path.write_text(json.dumps({**facts, "python": "3.7"}))
    text = refused(started.address)
    assert "run Python 3.7" in text
    assert "could not read each other's functions" in text


@pytest.mark.parametrize(
    "options", [{"num_cpus": 1}, {"resources": {"disk": 1}}, {"local_mode": True}, {"memory": 1 << 20}]
)
def test_what_the_node_was_told_before(started: Node, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must not be provided"):
        ray.init(started.address, **options)  # type: ignore[arg-type]


def test_other_plugins_than_those_of_the_session(started: Node) -> None:
    plan = json.loads(json.loads((Path(started.session_dir) / "session.json").read_bytes())["plan"])
    name, transport = plan["parts"]["store"]["name"], plan["parts"]["transport"]["name"]
    other = "heap" if name != "heap" else "plasma"
    with pytest.raises(IncompatiblePluginsError, match=f"store='{other}' was asked for, and .* joined has '{name}'"):
        ray.init(started.address, store=other)
    with pytest.raises(IncompatiblePluginsError, match=r"transport\.speed=3 was asked for"):
        ray.init(started.address, transport=transport, options={"transport": {"speed": 3}})
    assert not ray.is_initialized()
    with ray.init(started.address, store=name, transport=transport, log_to_driver=False):
        pass


def test_the_environment_names_it(started: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", started.address)
    with ray.init(log_to_driver=False) as context:
        assert context["session_dir"] == started.session_dir
    with ray.init("auto", log_to_driver=False) as context:
        assert context["session_dir"] == started.session_dir
    with ray.init("local", num_cpus=1, log_to_driver=False) as context:
        assert context["session_dir"] != started.session_dir


def test_a_relative_directory(started: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    root, name = os.path.split(started.session_dir)
    monkeypatch.chdir(root)
    with ray.init(f"unix:{name}", log_to_driver=False) as context:
        assert context["session_dir"] == started.session_dir


def test_a_directory_that_workers_cannot_enter(started: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver asks with a path, which the node manager opens."""
    from ray.runtime.driver import joined_node

    monkeypatch.setattr(joined_node.os, "getcwd", lambda: str(tmp_path / "elsewhere"))
    text = refused(started.address)
    assert "the node refuses this program: its working directory" in text
    assert "elsewhere" in text
