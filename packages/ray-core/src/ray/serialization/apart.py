"""Values without some of their parts, wherever these are: many values that share large parts send those once."""

from __future__ import annotations

import functools
import io
import pickle
from collections.abc import Callable
from typing import Any

from ray.serialization.pickling import by_value_pickler, serialize


def dump_apart(value: Any, name_of: Callable[[Any], Any]) -> bytes:
    """The pickle of a value, with names in place of the parts that have one.

    Args:
        value: what is pickled as tasks are, without buffers apart; references in it are to have names.
        name_of: gives the name of a part, which is pickled instead of it, or None; called for each part.

    Raises:
        UnpicklableError: it cannot be pickled.
    """
    file = io.BytesIO()
    try:
        _pickler()(file, name_of).dump(value)
    except Exception:
        serialize(value)  # says what it is that cannot be pickled
        raise
    return file.getvalue()


def load_apart(data: bytes, part_of: Callable[[Any], Any]) -> Any:
    """The value again; ``part_of`` gives the part that has a name."""
    unpickler = pickle.Unpickler(io.BytesIO(data))
    unpickler.persistent_load = part_of  # type: ignore[method-assign]
    return unpickler.load()


@functools.cache
def _pickler() -> Any:
    """The pickler; made on first use, because cloudpickle takes long to import."""

    class PicklerOfNames(by_value_pickler()):  # type: ignore[misc]
        def __init__(self, file: io.BytesIO, name_of: Callable[[Any], Any]) -> None:
            super().__init__(file, [], None)
            self._name_of = name_of

        def persistent_id(self, value: Any) -> Any:
            return self._name_of(value)

    return PicklerOfNames
