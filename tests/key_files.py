"""Key files for tests."""

from __future__ import annotations

from typing import Any

from ray.runtime.cluster.key_file import CurveKeys, KeyFile, fresh_hmac_key

SESSION = "00112233445566aa"


def a_key(**changes: Any) -> KeyFile:
    facts: dict[str, Any] = {
        "name": "default",
        "session": SESSION,
        "host": "127.0.0.1",
        "port": 6379,
        "curve": CurveKeys.fresh(),
        "hmac_key": fresh_hmac_key(),
        "control": ("redis://127.0.0.1:6379",),
        "user": "ray",
        "password": "geheim",
    }
    return KeyFile(**facts | changes)
