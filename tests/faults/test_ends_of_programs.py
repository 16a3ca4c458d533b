"""Programs that end while threads wait for ray, or right after a failure."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import pytest

_HEAD = """
import asyncio, os, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
import ray

ray.init(num_cpus=1, log_to_driver=False)

@ray.remote
def long():
    time.sleep(300)

ref = long.remote()

def wait_for_it():
    print("waiting", flush=True)
    ray.get(ref)
"""
WAYS = {
    "to_thread": """
async def main():
    await asyncio.to_thread(wait_for_it)
asyncio.run(main())
""",
    "own_executor": """
async def main():
    with ThreadPoolExecutor(2) as pool:
        await asyncio.get_running_loop().run_in_executor(pool, wait_for_it)
asyncio.run(main())
""",
    "pool": """
with ThreadPoolExecutor(2) as pool:
    pool.submit(ray.wait, [ref])
    pool.submit(wait_for_it).result()
""",
    "plain_thread": """
threading.Thread(target=wait_for_it).start()
time.sleep(300)
""",
}


@pytest.mark.parametrize(
    "way",
    [pytest.param(way, marks=() if way in ("to_thread", "own_executor") else pytest.mark.slow) for way in WAYS],
)
def test_ctrl_c_ends_a_program_whose_threads_wait(way):

    program = subprocess.Popen(
        [sys.executable, "-c", _HEAD + WAYS[way]], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert program.stdout.readline() == b"waiting\n"
        time.sleep(0.2)
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=40)
        assert b"KeyboardInterrupt" in err
        assert b"internal error" not in err
    finally:
        program.kill()
        program.wait()


def test_a_failure_is_told_by_a_program_that_ends_right_after_it():
    program = textwrap.dedent("""
    import ray

    ray.init(num_cpus=1)

    @ray.remote
    def fails():
        raise ValueError("nobody has asked")

    ref = fails.remote()
    ray.wait([ref], timeout=20_000)
    del ref
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0
    assert "nobody has asked" in done.stderr
    assert "can't create new thread" not in done.stderr
    assert (
        "Traceback (most recent call last):\n  File" not in done.stderr.replace(" in fails", "")
        or "[ray]" in done.stderr
    )
