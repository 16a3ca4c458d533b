"""Options of plugins: structs checked by msgspec, with sentences that say what was given and where."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec

from ray.config.encoding import lone_surrogate
from ray.config.sources import Setting
from ray.config.spelling import did_you_mean
from ray.exceptions import PluginOptionsError


def check_options(schema: type[msgspec.Struct] | None, given: Mapping[str, Setting], subject: str) -> dict[str, Any]:
    """Check the options of one plugin and fill in the defaults.

    Args:
        schema: the struct that describes them, or None if the plugin takes none.
        given: {option: setting}.
        subject: the plugin as messages name it, such as ``store='plasma'``.

    Returns:
        Plain values for every option, ready for JSON: a plan must not depend on what another process holds as default.

    Raises:
        PluginOptionsError: an option is unknown, missing or of the wrong type, a text in it cannot be encoded, or the
            machine does not have what it names, as the struct's ``check_machine`` says, if it has one, by a ValueError.
    """
    if schema is None:
        for option, setting in given.items():
            raise PluginOptionsError(f"{subject} takes no options, but {option!r} was given ({setting.source})")
        return {}
    names = schema.__struct_encode_fields__
    for option, setting in given.items():
        if option not in names:
            hint = did_you_mean(str(option), names)
            raise PluginOptionsError(f"{subject} has no option {option!r} ({setting.source}).{hint}")
        lone = lone_surrogate(setting.value)
        if lone:
            raise PluginOptionsError(
                f"{subject}: option {option!r} ({setting.source}): {setting.value!r} cannot be encoded in UTF-8, "
                f"because of {lone}, and other processes are handed it: give another one."
            )
    plain = {option: setting.value for option, setting in given.items()}
    try:
        checked = msgspec.convert(plain, schema)
    except msgspec.ValidationError as error:
        sentence = f"{subject}: {_sentence(str(error), given)}"
        raise PluginOptionsError(f"{sentence}{_accepted(schema, str(error))}") from None
    check_machine = getattr(checked, "check_machine", None)
    if check_machine is not None:
        try:
            check_machine()
        except ValueError as error:
            raise PluginOptionsError(f"{subject}: {error}") from None
    return {
        option: msgspec.to_builtins(getattr(checked, attribute))
        for attribute, option in zip(schema.__struct_fields__, names, strict=True)
    }


def make_options(schema: type[msgspec.Struct] | None, values: Mapping[str, Any]) -> Any:
    """The object that hooks receive, from the values of a plan."""
    return {} if schema is None else msgspec.convert(values, schema)


def _accepted(schema: type[msgspec.Struct], text: str) -> str:
    """What an option of a few fixed values takes, where ``text`` says that it was not given one of them."""
    option = text.partition(" - at `$.")[2].rstrip("`")
    for field in msgspec.structs.fields(schema):
        if field.encode_name == option and (values := _values_of(field.type)):
            return f". Accepted: {', '.join(map(repr, values))}."
    return ""


def _values_of(kind: Any) -> list[Any]:
    """The values of a ``Literal`` or an enum, optional or not."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [member.value for member in kind]
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [value for part in get_args(kind) for value in _values_of(part)]


def _sentence(text: str, given: Mapping[str, Setting]) -> str:
    """Turn ``Expected `int`, got `str` - at `$.capacity``` into words that name the option and its source."""
    message, _, place = text.partition(" - at `$.")
    option = place.rstrip("`")
    top = option.partition(".")[0].partition("[")[0]
    message = message.replace("`", "'")
    if not option:
        return message
    source = f" ({given[top].source})" if top in given else ""
    return f"option {option!r}{source}: {message[0].lower()}{message[1:]}"
