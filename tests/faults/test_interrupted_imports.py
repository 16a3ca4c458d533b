"""Finalisers that the collector runs in the middle of an import of ours, and that need what is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import gc, sys
import ray

failed = []
sys.unraisablehook = lambda what: failed.append(repr(what.exc_value))


def use():
    {use}


class Cycle:
    def __init__(self):
        self.me = self

    def __del__(self):
        global came
        if not done:
            Cycle()
        if "{module}" in sys.modules:
            came += 1
            use()


came, done = 0, False
ray.init(num_cpus=1)
ref = ray.put(1)
assert "{module}" not in sys.modules
Cycle()
gc.set_threshold(10)
use()
gc.set_threshold(700)
done = True
assert came, "no finaliser has come"
assert not failed, failed[:3]
"""


@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("cloudpickle", "ray.put(lambda: 1)"),
        ("ray.runtime.refs.awaiting", "ray.wait([ref]); ref.__await__().close()"),
        ("ray.runtime.refs.futures", "ref.future().cancel()"),
        ("ray.runtime.refs.coroutine", "ref.as_coroutine().close()"),
    ],
)
def test_what_is_imported_on_first_use_is_whole_for_finalisers(module, use):
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    program = [sys.executable, "-c", _PROGRAM.format(module=module, use=use)]
    ended = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
