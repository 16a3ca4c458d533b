"""Sessions whose control store is in a Redis server, which is killed, stopped, full or locked meanwhile."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests import victims
from tests.quick import crossed
from tests.redis_servers import RedisUnderTest, server_binary, server_of, servers_in, stopped

import ray
from ray.builtin.redis_control.keys import KeySpace
from ray.exceptions import RaySystemError, RayTaskError
from ray.testing import eventually, leaks


@pytest.fixture(autouse=True)
def binary() -> str:
    return server_binary()


@pytest.fixture
def server() -> Iterator[RedisUnderTest]:
    """One that is there before the session."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        server = RedisUnderTest(Path(folder))
        yield server
        server.close()


@ray.remote
def loaded() -> bool:
    import sys

    return "redis" in sys.modules


@ray.remote
class Counter:
    def __init__(self) -> None:
        self.n = 0

    def add(self) -> int:
        self.n += 1
        return self.n


@ray.remote(max_retries=0)
def fail(text: str) -> None:
    raise ValueError(text)


def redis_pid() -> int:
    """Of the session's own server."""
    manager = psutil.Process(victims.node_manager())
    found = [child.pid for child in manager.children(recursive=True) if "redis" in child.name()]
    return next(pid for pid in found if "unixsocket" in " ".join(psutil.Process(pid).cmdline()))


def use(count: int) -> None:
    """Tasks, actors and errors; ``count`` is how many errors there are then."""
    import sys

    assert ray.get([loaded.remote() for _ in range(4)]) == [False] * 4
    counter = Counter.options(name=f"counter {count}").remote()
    assert ray.get([counter.add.remote() for _ in range(3)]) == [1, 2, 3]
    assert ray.get(ray.get_actor(f"counter {count}").add.remote()) == 4
    ray.kill(counter)
    with pytest.raises(RayTaskError, match="on purpose"):
        ray.get(fail.remote(f"on purpose {count}"))
    eventually(lambda: len(errors()) == count)
    assert f"on purpose {count}" in str(errors()[-1])
    assert "redis" not in sys.modules or "pytest" in sys.modules


def errors() -> list[object]:
    return [row for row in ray.error_info() if "on purpose" in str(row)]


def test_a_session_with_its_own_server(start) -> None:
    start(num_cpus=2, control="redis", log_to_driver=False)
    use(1)
    use(2)


def test_no_driver_imports_the_library() -> None:
    program = """
    import json, sys, ray
    ray.init(num_cpus=1, control="redis", log_to_driver=False)
    ray.get(ray.remote(lambda: 1).remote())
    ray.error_info()
    ray.shutdown()
    print(json.dumps("redis" in sys.modules))
    """
    assert victims.in_program(program) is False


@pytest.mark.parametrize("kind", ["tcp", "unix", "file", "variable"])
def test_a_session_with_a_server_that_is_there(
    start, server: RedisUnderTest, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "url"
    place = f"/{server.path}" if kind == "unix" else f"127.0.0.1:{server.port}"
    scheme = "unix" if kind == "unix" else "redis"
    path.write_text(f"{scheme}://ray:{server.password}@{place}".replace("@//", "@/"))
    path.chmod(0o600)
    options = {"control": {"file": str(path)}}
    if kind == "variable":
        monkeypatch.setenv("RAY_CONTROL_FILE", str(path))
        options = {}
    start(num_cpus=2, control="redis", log_to_driver=False, options=options)
    use(1)
    assert server.admin("DBSIZE") >= 2
    keys = [key.decode() for key in server.admin("KEYS", "*")]
    assert all(key.startswith("ray:{default}:") for key in keys)
    ray.shutdown()
    left = [key for key in server.admin("KEYS", "*") if b"/done/" not in key]  # these end by themselves
    assert left == []
    assert all(server.admin("TTL", key) > 0 for key in server.admin("KEYS", "*"))


def test_two_sessions_share_a_server(start, server: RedisUnderTest, tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text(f"redis://ray:{server.password}@127.0.0.1:{server.port}")
    path.chmod(0o600)
    program = f"""
    import json, ray
    ray.init(num_cpus=1, control="redis", log_to_driver=False, options={{"control": {{"file": {str(path)!r}}}}})
    print(json.dumps(len(ray.error_info())), flush=True)
    """
    start(num_cpus=2, control="redis", log_to_driver=False, options={"control": {"file": str(path)}})
    use(1)
    assert victims.in_program(program) == 0
    use(2)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://ray:wrong@127.0.0.1:{port}", "does not let this user in"),
        ("redis://127.0.0.1:1", "connection refused"),
        ("unix:///nowhere/s", "no such file or directory"),
    ],
)
@pytest.mark.timeout(90)
def test_a_server_that_cannot_be_used_is_told_at_once(
    server: RedisUnderTest, tmp_path: Path, url: str, said: str
) -> None:
    path = tmp_path / "url"
    path.write_text(url.format(port=server.port))
    path.chmod(0o600)
    before = leaks.snapshot()
    with pytest.raises(RaySystemError, match=said) as caught:
        ray.init(num_cpus=1, control="redis", options={"control": {"file": str(path)}})
    assert "wrong" not in str(caught.value)
    leaks.assert_clean(before)


def test_the_server_is_killed_again_and_again(start) -> None:
    start(num_cpus=2, control="redis", log_to_driver=False)
    for count in range(1, 4):
        use(count)
        time.sleep(2.5)  # what the disk may be behind
        os.kill(redis_pid(), signal.SIGKILL)
    use(4)


def test_tasks_go_on_without_the_server(start) -> None:
    start(num_cpus=2, control="redis", log_to_driver=False)
    use(1)
    with stopped(redis_pid()):
        begin = time.monotonic()
        assert ray.get([loaded.remote() for _ in range(100)]) == [False] * 100
        with pytest.raises(RayTaskError, match="on purpose"):
            ray.get(fail.remote("on purpose 2"))
        counter = Counter.remote()
        assert ray.get(counter.add.remote()) == 1
        assert time.monotonic() - begin < 5
        with pytest.raises(
            RaySystemError, match=r"did not answer within .* has not been there for .* s: it does not answer"
        ):
            ray.error_info()
    eventually(lambda: len(errors()) == 2)


def test_a_zygote_that_is_killed_beside_the_client(start) -> None:
    """The next one is forked from a node manager that has the client's threads."""
    start(num_cpus=2, control="redis", log_to_driver=False)
    with pytest.raises(RayTaskError, match="on purpose"):
        ray.get(fail.remote("on purpose 1"))
    for _ in range(5):
        forker = victims.zygote()
        os.kill(forker, signal.SIGKILL)
        eventually(lambda forker=forker: victims.zygote() != forker)
        ray.error_info()
        counter = Counter.remote()
        assert ray.get(counter.add.remote()) == 1


def test_a_ctrl_c_in_the_terminal_does_not_reach_it(start) -> None:
    start(num_cpus=1, control="redis", log_to_driver=False)
    assert os.getpgid(redis_pid()) not in (os.getpgid(0), os.getpgid(victims.node_manager()))


DRIVER = """
import json, time, ray
ray.init(num_cpus=1, control="redis", log_to_driver=False)

@ray.remote(max_retries=0)
def fail():
    raise ValueError

ref = fail.remote()
ray.wait([ref])
print(json.dumps([int(ray.nodes()[0]["Pid"]), len(ray.error_info())]), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("victim", "how"),
    crossed(
        ["driver", "node manager", "both", "keeper and driver", "stopped server and driver"],
        [signal.SIGKILL, signal.SIGTERM, signal.SIGINT],
    ),
)
def test_no_server_outlives_its_session(how: int, victim: str) -> None:
    before = leaks.snapshot()
    with victims.program(DRIVER) as driver:
        manager, _ = victims.told(driver)
        children = psutil.Process(manager).children()
        keeper = next(child for child in children if child.name() == "ray::redis")
        server = psutil.Process(server_of(keeper.pid))
        folder = next(part for part in server.cmdline() if "unixsocket:" in part).partition("unixsocket:")[2]
        if victim == "keeper and driver":
            keeper.kill()
        if victim == "stopped server and driver":
            server.suspend()
        if victim in ("node manager", "both"):
            os.kill(manager, signal.SIGKILL)
        if victim != "node manager":
            driver.send_signal(how)
            driver.wait(20)
        eventually(lambda: not victims.alive(server.pid), within_s=20)
        eventually(lambda: not victims.alive(keeper.pid), within_s=20)
    leaks.assert_clean(before)
    assert servers_in(folder) == []


def test_the_keys_of_a_session_are_its_own() -> None:
    assert KeySpace("default", "abc").key("errors") == b"ray:{default}:abc:errors"
