"""What a program sends to its workers: the options ``working_dir`` and ``runtime_env`` of ``ray.init``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

from ray import later_names
from ray.config.spelling import did_you_mean
from ray.runtime.start_options import SentCode

_MAX_ENV_BYTES = 1 << 20


class RuntimeEnv(TypedDict, total=False):
    """Keys of ``runtime_env``."""

    working_dir: str | os.PathLike[str] | None
    env_vars: Mapping[str, str] | None


class WantedCode(NamedTuple):
    """Checked as far as that is possible without a look at the directory."""

    working_dir: str | None
    env_vars: dict[str, str]

    def send(self) -> SentCode:
        """Pack it.

        Raises:
            ValueError: the directory is none, is too large, or has something that cannot be read.
        """
        if self.working_dir is None:
            return SentCode(self.env_vars)
        from ray.runtime.driver.packing import pack  # Most programs send none.

        return SentCode(self.env_vars, pack(self.working_dir))


def wanted_code(working_dir: Any, runtime_env: Any) -> WantedCode:
    """Check both options of ``ray.init``.

    Raises:
        ValueError, TypeError: one is wrong, or has a key that is not here.
    """
    given: dict[object, Any] = {}
    if runtime_env is not None:
        if not isinstance(runtime_env, Mapping):
            raise TypeError(f"runtime_env must be a dict such as {{'working_dir': '.'}}, not {runtime_env!r}")
        given = {name: value for name, value in runtime_env.items() if value is not None}
    known = RuntimeEnv.__annotations__
    for name in given:
        if name not in known:
            instead = later_names.sentence("runtime_env", name) if isinstance(name, str) else ""
            raise ValueError(f"runtime_env has no key {name!r}.{instead or did_you_mean(str(name), [*known])}")
    if working_dir is not None and "working_dir" in given:
        raise ValueError(
            f"working_dir={working_dir!r} and runtime_env={{'working_dir': {given['working_dir']!r}}} are the same "
            "option: give one of them."
        )
    path = given.get("working_dir") if working_dir is None else working_dir
    return WantedCode(None if path is None else _path(path), _env_vars(given.get("env_vars")))


def _path(value: object) -> str:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise TypeError(f"working_dir must be the path of a directory, not {value!r}")
    if not path or "\0" in path:
        raise ValueError(f"working_dir must be the path of a directory, not {path!r}")
    if "://" in path:
        raise ValueError(
            f"working_dir={path!r} is a URL: only a directory of this machine can be sent in this release."
        )
    return path


def _env_vars(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"env_vars of runtime_env must be a dict of names and texts, not {given!r}")
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"env_vars of runtime_env must have texts as names and values, not {name!r}: {value!r}")
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"env_vars of runtime_env: no variable can be {name!r} with the value {value!r}")
        try:
            os.fsencode(name + value)
        except UnicodeEncodeError as error:
            raise ValueError(
                f"env_vars of runtime_env: {name!r}: {value!r} cannot be encoded: {error.reason}"
            ) from None
    size = sum(len(os.fsencode(name)) + len(os.fsencode(value)) for name, value in given.items())
    if size > _MAX_ENV_BYTES:
        raise ValueError(f"env_vars of runtime_env have {size:,} bytes; at most {_MAX_ENV_BYTES:,} can be sent")
    return dict(given)
