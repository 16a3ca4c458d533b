"""A node manager that was killed is gone as soon as the program has heard of it, and no zombie until ``shutdown``."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest
from tests import victims

import ray
from ray.exceptions import NodeDiedError
from ray.testing import eventually


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_it_is_no_zombie(start, number):
    start(num_cpus=1, log_to_driver=False)
    pid = victims.node_manager()
    ref = ray.remote(time.sleep).remote(60)
    os.kill(pid, number)
    with pytest.raises(NodeDiedError):
        ray.get(ref, timeout=20)
    eventually(lambda: not psutil.pid_exists(pid))
    ray.shutdown()
