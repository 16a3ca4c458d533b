"""The word count on a cluster runs as a user runs it; whatever ends it, nothing is left of the cluster."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.redis_servers import server_binary

from ray.testing import leaks

PROGRAM = Path(__file__).parents[2] / "examples" / "cluster_wordcount.py"
LIMIT_S = 50


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    server_binary()
    before = leaks.snapshot()
    yield
    leaks.assert_clean(before)


def started(*arguments: str, **environ: str) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *arguments], text=True, env=os.environ | environ, start_new_session=True, **pipes
    )


@pytest.mark.timeout(60)
def test_counts_on_three_nodes_like_a_serial_run() -> None:
    program = started("--limit", "300", "--top", "3")
    out, err = program.communicate(timeout=LIMIT_S)
    assert program.returncode == 0, err
    files, nodes, *rest = out.splitlines()
    assert files.startswith("300 files, ")
    assert re.fullmatch(r"3 nodes, at 127\.0\.0\.1:\d+", nodes)
    tasks = [re.fullmatch(r" +(\d+)  tasks on node '(\w+)'", line) for line in rest[:3]]
    assert [match and match[2] for match in tasks] == ["first", "second", "third"]
    assert sum(int(match[1]) for match in tasks if match) == 24
    assert all(re.fullmatch(r" *[\d,]+  \w+", line) for line in rest[3:])
    assert len(rest) == 6


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_end_in_the_middle(how: signal.Signals) -> None:
    program = started()
    assert program.stdout is not None
    program.stdout.readline()
    assert program.stdout.readline().startswith("3 nodes")
    program.send_signal(how)
    _, err = program.communicate(timeout=LIMIT_S)
    assert program.returncode == 130, err
    assert "Traceback" not in err


@pytest.mark.timeout(60)
@pytest.mark.parametrize("after_s", [0.6, *(pytest.param(each, marks=pytest.mark.slow) for each in (0.2, 1.0, 1.4))])
def test_an_end_while_nodes_start(after_s: float) -> None:
    program = started("--limit", "10")
    assert program.stdout is not None
    assert program.stdout.readline().startswith("10 files")
    time.sleep(after_s)
    program.send_signal(signal.SIGINT)
    program.communicate(timeout=LIMIT_S)
    assert program.returncode in (130, 0)


def test_without_a_redis_server(tmp_path: Path) -> None:
    program = started("--limit", "10", PATH=str(tmp_path), RAY_REDIS_SERVER="")
    _, err = program.communicate(timeout=LIMIT_S)
    assert program.returncode == 1
    assert re.fullmatch(r"ray: .*neither redis-server nor valkey-server is on PATH; install one: apt-get .*\n", err)
