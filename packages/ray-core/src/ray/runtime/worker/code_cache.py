"""Functions that a worker was sent, unpickled when first called; and arguments that were refs, put in their places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ray.abc.transport import Frame
from ray.exceptions import RaySystemError, RuntimeEnvSetupError
from ray.messages import codec, wire
from ray.runtime.owner.unreadable import raise_unreadable, value_of_ref
from ray.runtime.process.peers import MAX_KEPT_BYTES, Peer
from ray.serialization import deserialize_aligned, load_function


class CodeCache:
    """By hash; entries stay for the life of the process."""

    def __init__(self) -> None:
        #: {hash: (pickle, name)}
        self._pickled: dict[bytes, tuple[Any, str]] = {}
        self._loaded: dict[bytes, Any] = {}
        #: {id of a loaded function: its hash}; the functions are never dropped
        self._hashes: dict[int, bytes] = {}
        #: Why none can be loaded in this process, and its node, where that is so.
        self.lack: tuple[str, str] | None = None

    def add(self, function: wire.Function, frames: Sequence[Frame]) -> None:
        """Keep a function that came with a push."""
        self._pickled[function.hash] = (codec.detach(function.data, frames), function.name)

    def load(self, hash: bytes) -> Any:
        """The function itself; raises what unpickling it raises."""
        function = self._loaded.get(hash)
        if function is None:
            if self.lack is not None:
                raise RuntimeEnvSetupError(*self.lack)
            pickled = self._pickled.get(hash)
            if pickled is None:
                raise RaySystemError("the function of this task was not sent along")
            function = self._loaded[hash] = load_function(pickled[0])
            self._hashes[id(function)] = hash
        return function

    def origin(self, function: Any) -> tuple[bytes, Any] | None:
        """Hash and pickle of a function that came from here."""
        hash = self._hashes.get(id(function))
        return None if hash is None else (hash, self._pickled[hash][0])

    def name(self, hash: bytes) -> str:
        """What its owner calls it; empty if it is not known here."""
        pickled = self._pickled.get(hash)
        return "" if pickled is None else pickled[1]


class ArgumentCache:
    """Large values of arguments that were refs: kept until their owner says that it has no more use for them."""

    def __init__(self) -> None:
        #: {object id: blob}
        self._kept: dict[bytes, Any] = {}

    def take(self, deps: Sequence[wire.Dependency], frames: Sequence[Frame]) -> list[Any]:
        """The blobs for ``deps``, in order; None for one in the node's store. Called in the order of pushing."""
        values = []
        for dependency in deps:
            if dependency.data is None:
                blob = self._kept.get(dependency.id)
            else:
                blob = codec.detach(dependency.data, frames)
                if type(dependency.data) is int and len(blob) <= MAX_KEPT_BYTES:
                    self._kept[dependency.id] = blob
            values.append(blob)
        return values

    def on_forget(self, peer: Peer, message: wire.Forget, frames: Sequence[Frame]) -> None:
        """An owner has no more use for these; called by the reader under the lock."""
        for id in message.ids:
            self._kept.pop(id, None)


def with_dependencies(
    call: tuple[tuple[Any, ...], dict[str, Any]],
    deps: Sequence[wire.Dependency],
    values: Sequence[Any],
    read: Callable[[wire.Dependency], Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Put the values of arguments that were refs into their places; ``read`` looks for the others."""
    args, kwargs = list(call[0]), call[1]
    for dependency, blob in zip(deps, values, strict=True):
        data = read(dependency) if blob is None else blob
        try:
            value = deserialize_aligned(data)
        except BaseException as error:
            raise_unreadable(
                error, f"{value_of_ref(dependency.id)}, given as argument {dependency.at!r},", dependency.id
            )
        if isinstance(dependency.at, int):
            args[dependency.at] = value
        else:
            kwargs[dependency.at] = value
    return tuple(args), kwargs
