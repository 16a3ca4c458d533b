"""Sessions of processes that ``multiprocessing`` has spawned: the program's script has another name there."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from tests.quick import first_of

PROGRAM = """
    import dataclasses, enum, functools, multiprocessing, sys
    import ray

    def plain(x):
        return x + 1

    @functools.lru_cache
    def cached(x):
        return x + 2

    class Color(enum.Enum):
        RED = 1

    @dataclasses.dataclass
    class Point:
        x: int

    @ray.remote
    def uses(x):
        return plain(x), cached(x)

    @ray.remote
    class Actor:
        def point(self, x):
            return Point(plain(x))

    def child(path):
        with ray.init(num_cpus=1):
            assert ray.get(uses.remote(1)) == (2, 3)
            assert ray.get(Actor.remote().point.remote(2)) == Point(3)
            assert ray.get(ray.remote(lambda point: point.x).remote(Point(7))) == 7
            assert ray.get(ray.put({"a": Point(1), "b": [plain]}))["b"][0](1) == 2
            assert ray.get(ray.remote(lambda: Color.RED).remote()) is Color.RED
        open(path, "x").close()

    if __name__ == "__main__":
        process = multiprocessing.get_context(sys.argv[1]).Process(target=child, args=(sys.argv[2],))
        process.start()
        process.join()
"""


@pytest.mark.parametrize("method", first_of(["spawn", "fork", "forkserver"], 2))
def test_functions_and_classes_of_the_script_go_to_tasks(method, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(PROGRAM))
    done = subprocess.run(
        [sys.executable, str(script), method, str(tmp_path / "done")], capture_output=True, text=True, timeout=50
    )
    assert (tmp_path / "done").exists(), done.stderr
