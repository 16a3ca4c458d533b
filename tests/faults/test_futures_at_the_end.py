"""A future that is asked for while the session ends."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from tests import victims

import ray
from ray.exceptions import RayConnectionError
from ray.testing import eventually


@ray.remote
def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)


def threads_of_futures():
    return [thread for thread in threading.enumerate() if thread.name == "ray-futures"]


def test_a_future_that_is_refused_leaves_no_thread(start, tmp_path):
    start(num_cpus=1, log_to_driver=False)
    ref = wait_for.remote(tmp_path / "gate")
    os.kill(victims.node_manager(), signal.SIGSTOP)  # so that the end takes a while
    ending = threading.Thread(target=ray.shutdown)
    ending.start()

    def is_refused():
        try:
            future = ref.future()
        except RayConnectionError:
            return True
        assert future.cancel()
        return False

    eventually(is_refused)
    ending.join(20)
    eventually(lambda: not threads_of_futures())
    with pytest.raises(RayConnectionError):
        ref.future()
