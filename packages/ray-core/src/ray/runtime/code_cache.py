"""Functions that a worker was sent, unpickled when first called; and arguments that were refs, put in their places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.abc.store import Store
from ray.abc.transport import Frame
from ray.exceptions import RaySystemError
from ray.messages import codec, wire
from ray.serialization import deserialize, load_function


class CodeCache:
    """By hash; entries stay for the life of the process."""

    def __init__(self) -> None:
        #: {hash: (pickle, name)}
        self._pickled: dict[bytes, tuple[Any, str]] = {}
        self._loaded: dict[bytes, Any] = {}

    def add(self, function: wire.Function, frames: Sequence[Frame]) -> None:
        """Keep a function that came with a push."""
        self._pickled[function.hash] = (codec.detach(function.data, frames), function.name)

    def load(self, hash: bytes) -> Any:
        """The function itself; raises what unpickling it raises."""
        function = self._loaded.get(hash)
        if function is None:
            pickled = self._pickled.get(hash)
            if pickled is None:
                raise RaySystemError("the function of this task was not sent along")
            function = self._loaded[hash] = load_function(pickled[0])
        return function

    def name(self, hash: bytes) -> str:
        """What its owner calls it; empty if it is not known here."""
        pickled = self._pickled.get(hash)
        return "" if pickled is None else pickled[1]


def with_dependencies(
    call: tuple[tuple[Any, ...], dict[str, Any]],
    deps: Sequence[wire.Dependency],
    frames: Sequence[Frame],
    store: Store,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Put the values of arguments that were refs into their places."""
    args, kwargs = list(call[0]), call[1]
    for dependency in deps:
        if dependency.data is None:
            blob: Any = store.get(dependency.id)
            if blob is None:
                raise RaySystemError(f"the argument {dependency.id.hex()} is not in the node's store")
        else:
            blob = codec.detach(dependency.data, frames)
        value = deserialize(blob)
        if isinstance(dependency.at, int):
            args[dependency.at] = value
        else:
            kwargs[dependency.at] = value
    return tuple(args), kwargs
