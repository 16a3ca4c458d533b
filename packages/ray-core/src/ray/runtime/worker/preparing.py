"""What a call runs, and with what: the user's function and its arguments, as they come out of the messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from ray.exceptions import ObjectLostError
from ray.ids import node_of, process_of
from ray.messages import codec, wire
from ray.runtime.lanes import check_group
from ray.runtime.owner.unreadable import raise_unreadable
from ray.runtime.worker.code_cache import with_dependencies
from ray.serialization import EMPTY_ARGS, deserialize_aligned

if TYPE_CHECKING:
    from ray.runtime.owner.losses import Losses
    from ray.runtime.owner.values import Values
    from ray.runtime.worker.actor_host import ActorHost
    from ray.runtime.worker.call import CallArguments, TaskCall
    from ray.runtime.worker.code_cache import CodeCache


class Preparing:
    """Finds functions and methods, and unpickles arguments. Raises what the user's code raises in that."""

    __slots__ = ("_actor", "_blob_of", "_code", "_losses", "_values", "in_thread")

    def __init__(
        self,
        code: CodeCache,
        actor: ActorHost,
        values: Values,
        losses: Losses,
        blob_of: Callable[[bytes, str], Any],
    ) -> None:
        """Make it.

        Args:
            code: functions that the process was sent.
            actor: what the process is.
            values: in the node's store.
            losses: tells why what is lost is lost.
            blob_of: the value of an object with that id and owner; waits for it.
        """
        self._code = code
        self._actor = actor
        self._values = values
        self._losses = losses
        self._blob_of = blob_of
        #: {method: whether it asks to run on a thread}
        self.in_thread: dict[bytes, bool] = {}

    def target_of(self, task: wire.Task) -> Any:
        """The function, or the actor's bound method, that a task names."""
        return self._actor.method_of(task) if task.actor else self._code.load(task.function)

    def name_of(self, task: wire.Task) -> str:
        """What messages call it."""
        if task.actor:
            return f"{self._actor.name}.{task.function.decode(errors='replace')}"
        return task.name or self._code.name(task.function)

    def prepare(self, call: TaskCall) -> tuple[Any, CallArguments]:
        """What is to be called, and the arguments."""
        if not call.peer.near:
            self.fetch(call)
        task = call.task
        function = self.target_of(task)
        call.name = task.name or self.name_of(task)
        if task.group:
            check_group(call.name, task.group, self._actor.groups)
        data = self._values.stored_blob(task.stored) if task.stored else codec.detach(task.args, call.frames)
        if not task.deps:
            if data == EMPTY_ARGS:
                return function, ((), {})
            return function, _arguments(data, call.name)
        return function, with_dependencies(
            _arguments(data, call.name), task.deps, call.values, lambda dependency: self._stored(call, dependency)
        )

    def fetch(self, call: TaskCall) -> None:
        """Get what a caller on another node could not send along at once from its owner; waits for it."""
        task, values = call.task, call.values
        if task.stored:
            call.task = task = replace(task, args=self._blob_of(task.stored, call.peer.address), stored=b"")
        for index, dependency in enumerate(task.deps):
            if values[index] is None:
                values[index] = self._blob_of(dependency.id, dependency.address)

    def _stored(self, call: TaskCall, dependency: wire.Dependency) -> Any:
        """Of an argument that was a ref: what the node's store has.

        Raises:
            ObjectLostError: it has no such object (any more).
            OwnerDiedError: as it has gone with its owner, which the caller is not.
        """
        # It is away, or the caller only believes that it is kept here.
        if dependency.away is not None or node_of(dependency.id) != node_of(call.peer.process):
            return self._blob_of(dependency.id, dependency.address)
        try:
            return self._values.stored_blob(dependency.id)
        except ObjectLostError as error:
            if process_of(dependency.id) == call.peer.process:
                raise
            raise self._losses.of_object(dependency.id, dependency.address, error) from None


def _arguments(data: Any, call: str) -> CallArguments:
    try:
        arguments: CallArguments = deserialize_aligned(data)
        return arguments
    except BaseException as error:
        raise_unreadable(error, f"an argument of {call}")
