"""A node that does not answer: one thread ends the session while another one still deals with the loss."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from tests import victims

import ray
from ray.exceptions import NodeDiedError
from ray.runtime.driver import embedded_node as driver


@ray.remote
def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)


def test_shutdown_while_another_thread_deals_with_it(start, tmp_path, capfd, monkeypatch):
    """Only the error of the loss reaches the program, and the reason is printed."""
    start(num_cpus=1, log_to_driver=False)
    ref = wait_for.remote(tmp_path / "gate")
    ended = threading.Event()
    kill_session = driver.kill_marked

    def kill_slowly(*args):
        ended.wait(1.0)
        return kill_session(*args)

    monkeypatch.setattr(driver, "kill_marked", kill_slowly)
    outcomes = []

    def get():
        try:
            ray.get(ref)
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=get) for _ in range(3)]
    for thread in threads:
        thread.start()
    os.kill(victims.node_manager(), signal.SIGSTOP)
    with pytest.raises(NodeDiedError):
        ray.get(ref, timeout=30)
    ray.shutdown()
    ended.set()
    for thread in threads:
        thread.join(20)
    assert [type(outcome) for outcome in outcomes] == [NodeDiedError] * 3
    assert "[ray] its node manager does not answer" in capfd.readouterr().err
