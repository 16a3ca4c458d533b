"""Processes that listen and never answer: what needs one waits for it, and nothing else does."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator

import pytest

import ray
from ray.ids import OBJECT_ID_BYTES
from ray.testing import inside


@ray.remote
def one() -> int:
    return 1


@ray.remote
class Actor:
    def hold(self, id: bytes, owner: str, value: int) -> int:
        """Wait for what nobody sends, on another thread."""
        self.ref = inside.foreign_ref(id, owner)
        self.waiting = threading.Thread(target=lambda: ray.wait([self.ref], timeout=20), daemon=True)
        self.waiting.start()
        return value

    def let_go(self) -> None:
        self.waiting.join(20)
        del self.ref


@contextlib.contextmanager
def silence(scheme: str, folder: str) -> Iterator[str]:
    """The address of a listener that lets nobody in, as far as the system goes."""
    path = f"{folder}/silent.sock"
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0 if scheme == "unix:" else 64)
        while scheme == "unix:":
            filler = stack.enter_context(socket.socket(socket.AF_UNIX))
            filler.setblocking(False)
            try:
                filler.connect(path)
            except BlockingIOError:
                break
        yield scheme + path


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("transport", "scheme"), [("unix", "unix:"), pytest.param("zmq", "ipc://", marks=pytest.mark.slow)]
)
def test_an_owner_that_never_answers_holds_up_nobody_else(start, transport, scheme) -> None:
    start(num_cpus=2, transport=transport, log_to_driver=False)
    assert ray.get(one.remote()) == 1
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, silence(scheme, folder) as address:
        ref = inside.foreign_ref(os.urandom(OBJECT_ID_BYTES), address)
        errors: list[BaseException] = []

        def wait() -> None:
            try:
                ray.get(ref, timeout=60)
            except ray.exceptions.RayError as error:
                errors.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        actor = Actor.remote()
        assert ray.get(actor.hold.remote(os.urandom(OBJECT_ID_BYTES), address, 5)) == 5
        for _ in range(20):
            assert ray.get(one.remote()) == 1
        assert ray.get([one.remote() for _ in range(100)]) == [1] * 100
        assert waiting.is_alive()  # it is still being dialled
        assert not errors
        waiting.join(30)
        assert [type(error) for error in errors] == [ray.exceptions.OwnerDiedError]
        ray.get(actor.let_go.remote())
