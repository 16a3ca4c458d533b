"""Where a choice comes from: keyword, environment, file — the first that speaks wins — and the memory of which it was.

Only the working directory is searched for a file, never its parents, so that a result does not depend on what lies
above. Child processes do not come here: they receive the plan.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ray.config.spelling import did_you_mean
from ray.exceptions import PluginOptionsError
from ray.exceptions.base import printable

#: What a pyproject.toml with a table ``tool.ray`` has, however that is written: the key ``tool``, alone or before it.
_TOOL_RAY = re.compile(rb"""tool["']?[ \t]*(?:\.[ \t]*["']?ray|[]=])""")


class Setting(msgspec.Struct, frozen=True):
    """A value and where it was set."""

    value: Any
    source: str
    """As it is said in a sentence, such as ``from environment RAY_STORE``."""


class ConfigFile(msgspec.Struct, frozen=True):
    """The ``ray`` table of a file, not yet checked."""

    table: Mapping[str, Any] = msgspec.field(default_factory=dict)
    source: str = ""


class Settings(msgspec.Struct, frozen=True):
    """Everything that was asked for, before it is held against what is installed."""

    #: {seam: name or dotted path}; a seam without a choice is absent.
    choices: Mapping[str, Setting] = msgspec.field(default_factory=dict)
    #: Names of the observers to load, in order.
    observers: Setting = msgspec.field(default_factory=lambda: Setting((), "default"))
    #: {seam: {option: setting}}, for whatever plugin is chosen.
    keyword_options: Mapping[str, Mapping[str, Setting]] = msgspec.field(default_factory=dict)
    #: {seam: {plugin name: {option: setting}}}, for that plugin only.
    file_options: Mapping[str, Mapping[str, Mapping[str, Setting]]] = msgspec.field(default_factory=dict)

    def options_for(self, seam: str, name: str, *, chosen: bool = True) -> dict[str, Setting]:
        """Options of one plugin; those given by keyword, which belong to the ``chosen`` one, win over the file's."""
        options = dict(self.file_options.get(seam, {}).get(name, {}))
        if chosen:
            options.update(self.keyword_options.get(seam, {}))
        return options


def read_file(environ: Mapping[str, str], cwd: str | os.PathLike[str]) -> ConfigFile:
    """Read the one file that counts: ``RAY_CONFIG``, else ``ray.toml``, else ``[tool.ray]`` of ``pyproject.toml``.

    Args:
        environ: the environment.
        cwd: the directory to look in; a relative ``RAY_CONFIG`` is taken from here too.

    Raises:
        PluginOptionsError: ``RAY_CONFIG`` names no readable file, or the file is not valid TOML.
    """
    named = environ.get("RAY_CONFIG")
    if named:
        try:
            data = _read(os.path.join(cwd, named))
        except OSError as error:
            reason = error.strerror or str(error)
            raise PluginOptionsError(f"RAY_CONFIG={named!r} cannot be read: {reason}") from error
        return _parse(
            data, f"file {printable(named)} (RAY_CONFIG)", in_pyproject=os.path.basename(named) == "pyproject.toml"
        )
    for filename in ("ray.toml", "pyproject.toml"):
        try:
            data = _read(os.path.join(cwd, filename))
        except OSError:
            continue
        in_pyproject = filename == "pyproject.toml"
        # Parsing takes milliseconds of each start, and most projects' files have no such table.
        if in_pyproject and not _TOOL_RAY.search(data):
            continue
        return _parse(data, "pyproject.toml [tool.ray]" if in_pyproject else filename, in_pyproject=in_pyproject)
    return ConfigFile()


def gather(
    seams: Mapping[str, str],
    keywords: Mapping[str, Any],
    options: Mapping[str, Any],
    observers: Any,
    environ: Mapping[str, str],
    cwd: str | os.PathLike[str],
) -> Settings:
    """Collect what was asked for.

    Args:
        seams: {seam name: its environment variable}.
        keywords: {seam name: value or None}, from ``ray.init``.
        options: {seam name: {option: value}}, from ``ray.init``.
        observers: names of observers from ``ray.init``, or None.
        environ: the environment. An empty variable counts as unset.
        cwd: the directory whose ``ray.toml`` or ``pyproject.toml`` is read.

    Raises:
        PluginOptionsError: a value has the wrong type, or a key is unknown.
    """
    file = read_file(environ, cwd)
    from_file = f"from {file.source}"
    for key in file.table:
        if key not in seams and key not in ("options", "observers"):
            hint = did_you_mean(key, [*seams, "options", "observers"])
            raise PluginOptionsError(f"{file.source}: unknown key {key!r}.{hint}")

    choices: dict[str, Setting] = {}
    for seam, variable in seams.items():
        if keywords.get(seam) is not None:
            setting = Setting(keywords[seam], f"from ray.init({seam}=...)")
        elif environ.get(variable):
            setting = Setting(environ[variable], f"from environment {variable}")
        elif seam in file.table:
            setting = Setting(file.table[seam], from_file)
        else:
            continue
        if not isinstance(setting.value, str) or not setting.value:
            raise PluginOptionsError(
                f"{seam}={setting.value!r} ({setting.source}) must be the name of a plugin or a dotted path to one"
            )
        choices[seam] = setting

    per_plugin = {
        seam: {
            name: _settings(values, f"{file.source}: options.{seam}.{name}", from_file)
            for name, values in _table(plugins, f"{file.source}: options.{seam}").items()
        }
        for seam, plugins in _table(file.table.get("options", {}), f"{file.source}: options").items()
    }
    by_keyword = {
        seam: _settings(values, f"options[{seam!r}]", "from ray.init(options=...)")
        for seam, values in _table(options, "options").items()
    }
    for source, named in ((f"{file.source}: options", per_plugin), ("options", by_keyword)):
        for seam in named:
            if seam not in seams:
                raise PluginOptionsError(f"{source}: {seam!r} is not a seam.{did_you_mean(seam, seams)}")
    return Settings(choices, _observers(observers, environ, file, from_file), by_keyword, per_plugin)


def _observers(keyword: Any, environ: Mapping[str, str], file: ConfigFile, from_file: str) -> Setting:
    value: Any
    if keyword is not None:
        value, source = keyword, "from ray.init(observers=...)"
    elif "RAY_OBSERVERS" in environ:  # Empty is an answer here: none.
        names = environ["RAY_OBSERVERS"].split(",")
        value, source = [name.strip() for name in names if name.strip()], "from environment RAY_OBSERVERS"
    else:
        value, source = file.table.get("observers", ()), from_file if "observers" in file.table else "default"
    chosen = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if isinstance(value, str) or not all(isinstance(name, str) and name for name in chosen):
        raise PluginOptionsError(f"observers={value!r} ({source}) must be a list of names")
    return Setting(tuple(chosen), source)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _parse(data: bytes, source: str, *, in_pyproject: bool) -> ConfigFile:
    import tomllib

    try:
        table: Any = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PluginOptionsError(f"{source} is not valid TOML: {error}") from error
    if in_pyproject:
        table = table.get("tool", {}).get("ray", {})
    return ConfigFile(_table(table, source), source)


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise PluginOptionsError(f"{where} must be a table, not {value!r}")
    return value


def _settings(values: Any, where: str, source: str) -> dict[str, Setting]:
    return {option: Setting(value, source) for option, value in _table(values, where).items()}
