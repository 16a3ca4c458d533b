"""How many descriptors are open, on systems that tell it in different places."""

import os

import pytest

from ray.runtime.process import descriptors


@pytest.mark.parametrize("missing", [(), ("/dev/fd",), ("/dev/fd", "/proc/self/fd")])
def test_there_may_be_no_such_folder(monkeypatch, missing):
    listdir = os.listdir

    def without(folder):
        if folder in missing:
            raise FileNotFoundError(folder)
        return listdir(folder)

    count = descriptors.in_use()
    assert count > 2
    monkeypatch.setattr(descriptors.os, "listdir", without)
    assert descriptors.in_use() == (count if len(missing) < 2 else 0)
    descriptors.secure(1, "a test")
