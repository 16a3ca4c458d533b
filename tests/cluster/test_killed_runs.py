"""A run of tests that is killed leaves clusters; the next one ends them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests import killed_runs
from tests.commands import LIMIT_S
from tests.victims import alive

from ray.testing import eventually, leaks

ROOT = Path(__file__).parents[2]

RUN = """
import sys, time
from pathlib import Path
from tests import killed_runs
from tests.commands import Machine

killed_runs.begin()
machine = Machine(Path(sys.argv[1]), Path(sys.argv[2]))
machine.done("start", "--head", "--num-cpus", "1")
print(machine.status()["nodes"][0]["pid"], flush=True)
time.sleep(600)
"""


def test_the_clusters_of_a_killed_run_are_ended(tmp_path, machine):
    before = leaks.snapshot()
    environ = {name: value for name, value in os.environ.items() if name != killed_runs.VARIABLE}
    command = [sys.executable, "-c", RUN, str(tmp_path / "home"), str(machine.runtime)]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as run:
        node = int(run.stdout.readline())
        assert node not in killed_runs.left()
        assert alive(node)
        run.kill()
    killed_runs.end_left()
    leaks.assert_clean(before)
    eventually(lambda: not alive(node), LIMIT_S, "it is reaped")
