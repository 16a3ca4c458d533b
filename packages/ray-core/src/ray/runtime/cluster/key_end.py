"""The end of a cluster's key, by which its name is free."""

from __future__ import annotations

import contextlib

from ray.builtin.redis_control.plain_link import RefusedError
from ray.exceptions import KeyFileError
from ray.runtime.cluster.control_server import release_name
from ray.runtime.cluster.key_file import read_given_up
from ray.runtime.cluster.key_folder import remove_key_file

_ASK_S = 2.0


def give_up_name(path: str, session: str) -> None:
    """Have the key file and the control server not know of this life of the cluster any more.

    Where the file is gone, or is that of another life, this was done. Blocks for seconds if the server is silent.

    Args:
        path: of the key file.
        session: the life of the cluster.
    """
    with contextlib.suppress(OSError, KeyFileError, RefusedError):
        key = read_given_up(path)
        if key.session == session:
            remove_key_file(path, session)
            release_name(key, _ASK_S)
