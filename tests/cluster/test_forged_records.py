"""Somebody who has the password of the control server writes there: no node uses that, and each says so in its log.

What is sealed for one key is not good for another one either.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.canary import Canary
from tests.commands import Machine

from ray.builtin.redis_control.keys import KeySpace
from ray.testing import eventually

PROGRAM = """
@ray.remote(num_cpus=0, max_restarts=-1)
class Kept:
    def word(self):
        return "it lives"

ray.init("auto")
kept = {name: Kept.options(name=name, lifetime="detached").remote() for name in "abc"}
print([ray.get(each.word.remote()) for each in kept.values()], flush=True)
for line in sys.stdin:
    what, name = line.split()
    try:
        actor = ray.get_actor(name) if what == "find" else kept[name]
        print(ray.get(actor.word.remote(), timeout=60), flush=True)
    except Exception as error:
        print(type(error).__name__, str(error).replace("\\n", " "), flush=True)
"""


class Forged:
    """A cluster with three named actors, and somebody who writes into its control server."""

    def __init__(self, machine: Machine) -> None:
        import redis

        self.machine = machine
        machine.done("start", "--head", "--num-cpus", "2")
        machine.done("start", "--address", "auto", "--num-cpus", "2")
        self.program = machine.program(PROGRAM)
        key = machine.key()
        self.client = redis.Redis(
            host=key["host"], port=key["port"], ssl=True, ssl_ca_data=key["certificate"], ssl_check_hostname=False,
            username=key["user"], password=key["password"], socket_timeout=10,
        )  # fmt: skip
        self.keys = KeySpace(key["name"], key["session"])

    def hears(self) -> str:
        assert self.program.stdout is not None
        return self.program.stdout.readline().strip()

    def asks(self, what: str, name: str) -> str:
        assert self.program.stdin is not None
        self.program.stdin.write(f"{what} {name}\n")
        self.program.stdin.flush()
        return self.hears()

    def keys_of(self, begin: str) -> list[bytes]:
        """Names of the keys that begin so."""
        names = self.client.execute_command("ZRANGE", self.keys.index, "-", "+", "BYLEX")
        return [self.keys.key(name.decode()) for name in names if name.startswith(begin.encode())]

    def head_pid(self) -> int:
        (pid,) = [node["pid"] for node in self.machine.status()["nodes"] if node["is_head"]]
        return int(pid)

    def logs(self) -> str:
        return "".join(path.read_text(errors="replace") for path in self.machine.runtime.rglob("*.log"))


@pytest.fixture
def forged(machine: Machine) -> Iterator[Forged]:
    pytest.importorskip("redis")
    made = Forged(machine)
    try:
        assert made.hears() == str(["it lives"] * 3)
        yield made
    finally:
        made.client.close()
        made.program.kill()
        made.program.communicate()


@pytest.mark.slow
def test_what_others_write_about_actors_is_not_used(forged: Forged, tmp_path: Path) -> None:
    canary = tmp_path / "unpickled"
    blob = pickle.dumps(Canary(canary))
    first, second, third = sorted(forged.keys_of("name:7:default:"))
    forged.client.set(first, bytes(32) + blob)
    forged.client.set(second, forged.client.get(third))
    for name in "ab":
        assert forged.asks("find", name).startswith("ValueError ")
        line = f"what the control store has at 'name:7:default:{name}' was not written by this cluster, and is not used"
        assert eventually(lambda line=line: line in forged.logs()), forged.logs()
        assert forged.asks("have", name) == "it lives", "who has its handle needs no name"
    assert forged.asks("find", "c") == "it lives"
    born = forged.keys_of("born:")
    assert len(born) == 3
    for key in born:
        forged.client.set(key, bytes(32) + blob)
    before = forged.head_pid()
    os.kill(before, signal.SIGKILL)
    assert eventually(lambda: forged.logs().count("the record of actor ") >= 3), forged.logs()
    lines = forged.machine.run(
        """
        ray.init("auto")
        for name in "abc":
            try:
                print(ray.get(ray.get_actor(name).word.remote(), timeout=30))
            except (ValueError, ray.exceptions.RayActorError) as error:
                print(type(error).__name__)
        """
    )
    assert [line in ("ValueError", "RayActorError", "ActorDiedError") for line in lines] == [True] * 3, lines
    assert not canary.exists()
