"""Sessions of programs whose standard streams are closed."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import textwrap

import pytest

SUBSETS = [
    pytest.param(subset, marks=[] if subset == (0, 1, 2) else [pytest.mark.slow], id="".join(map(str, subset)))
    for count in (1, 2, 3)
    for subset in itertools.combinations(range(3), count)
]

_PROGRAM = textwrap.dedent("""
    import json, os, sys, traceback

    def is_null(descriptor):
        return os.readlink(f"/proc/self/fd/{descriptor}") == "/dev/null"

    answer = {}
    try:
        import ray
        ray.init(num_cpus=1)

        @ray.remote
        def streams():
            print("printed")
            print("printed", file=sys.stderr)
            return [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]

        answer["worker"] = ray.get(streams.remote(), timeout=30)
        answer["large"] = len(ray.get(ray.put(bytes(1_000_000))))
        answer["driver"] = [number for number in range(3) if is_null(number)]
        ray.shutdown()
        answer["end"] = "fine"
    except BaseException:
        answer["error"] = traceback.format_exc()
    with open(sys.argv[1], "w") as file:
        json.dump(answer, file)
""")
_CLOSE_AND_RUN = (
    "import os, sys; [os.close(int(n)) for n in sys.argv[1].split(',')]; os.execv(sys.argv[2], sys.argv[2:])"
)
_CLOSE_AND_GO_ON = "import os, sys; [os.close(int(n)) for n in sys.argv.pop(2).split(',')]\n" + _PROGRAM


def check(command, tmp_path, closed):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=50, check=False)
    answer = json.loads((tmp_path / "answer").read_text())
    assert answer.get("end") == "fine", answer
    assert done.returncode == 0, done
    assert answer["large"] == 1_000_000
    assert all(number in answer["driver"] for number in closed)
    first, *others = answer["worker"]
    assert first == "/dev/null"
    assert all(other.startswith("pipe:") for other in others)


@pytest.mark.parametrize("closed", SUBSETS)
def test_streams_closed_before_the_program(tmp_path, closed):
    numbers = ",".join(map(str, closed))
    program = [sys.executable, "-c", _PROGRAM, str(tmp_path / "answer")]
    check([sys.executable, "-c", _CLOSE_AND_RUN, numbers, *program], tmp_path, closed)


@pytest.mark.parametrize("closed", [pytest.param((0, 1, 2), marks=pytest.mark.slow), (2,)], ids=["012", "2"])
def test_streams_closed_by_the_program(tmp_path, closed):
    numbers = ",".join(map(str, closed))
    check([sys.executable, "-c", _CLOSE_AND_GO_ON, str(tmp_path / "answer"), numbers], tmp_path, closed)
