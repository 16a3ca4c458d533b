"""Workers run with the options of the driver's interpreter."""

import subprocess
import sys
import textwrap

import pytest
from tests.quick import first_of

SCRIPT = """
    import sys, warnings
    import ray

    def seen():
        flags = sys.flags.optimize, sys.flags.dont_write_bytecode, sys.flags.bytes_warning, sys.flags.dev_mode
        try:
            warnings.warn("meant")
            warned = "shown"
        except UserWarning:
            warned = "raised"
        try:
            assert False
            asserted = False
        except AssertionError:
            asserted = True
        return flags, sys.flags.utf8_mode, sorted(sys._xoptions), warned, asserted

    @ray.remote
    class Actor:
        def seen(self):
            return seen()

    with ray.init(num_cpus=1):
        there = ray.get([ray.remote(seen).remote(), Actor.remote().seen.remote()])
        print("alike" if there == [seen()] * 2 else "different", seen(), there)
"""


@pytest.mark.parametrize(
    "options",
    first_of(
        [
            ["-O", "-W", "error::UserWarning", "-X", "utf8", "-X", "frozen_modules=off"],
            ["-OO", "-B", "-b", "-X", "dev"],
            ["-E", "-s", "-P", "-W", "error::UserWarning"],
        ],
        2,
    ),
)
def test_workers_have_them(options):
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(SCRIPT)], capture_output=True, text=True, timeout=50
    )
    assert done.stdout.startswith("alike"), done.stdout + done.stderr
