"""The control server of a key file, as the plugin of the control store takes it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

import msgspec

from ray.builtin.redis_control.access import parse_url, save
from ray.runtime.cluster.key_file import KeyFile


@contextlib.contextmanager
def control_address(key: KeyFile) -> Iterator[str]:
    """What ``ray_open_control`` takes. It names a file with the password, which is gone afterwards."""
    access = msgspec.structs.replace(
        parse_url(key.control[0]),
        user=key.user,
        password=key.password,
        certificate=key.certificate,
        name=key.name,
        session=key.session,
    )
    with tempfile.TemporaryDirectory(prefix="ray-start-") as folder:
        yield save(access, os.path.join(folder, "access.json"))
