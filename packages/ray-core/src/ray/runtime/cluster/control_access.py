"""The control server of a key file, as the plugin of the control store takes it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import msgspec

from ray.builtin.redis_control.access import parse_url, save
from ray.runtime.cluster.key_file import KeyFile
from ray.runtime.process.session_dirs import (
    create_session_dir,
    new_session_id,
    place_session,
    remove_session_dir,
)


@contextlib.contextmanager
def control_address(key: KeyFile) -> Iterator[str]:
    """What ``ray_open_control`` takes. It names a file with the password, which is gone afterwards.

    It is in a directory as sessions have them: if this process is killed here, the next one takes it away.
    """
    access = msgspec.structs.replace(
        parse_url(key.control[0]),
        user=key.user,
        password=key.password,
        certificate=key.certificate,
        name=key.name,
        session=key.session,
    )
    folder = place_session(new_session_id())
    create_session_dir(folder, os.getpid())
    try:
        yield save(access, os.path.join(folder, "access.json"))
    finally:
        remove_session_dir(folder)
