"""Calls about actors: ``kill``, ``get_actor`` and ``exit_actor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never

from ray.api.actors import ActorHandle
from ray.api.options import check_name
from ray.runtime.interface import current_session

if TYPE_CHECKING:
    from ray.api.typed_actor import Actor


def kill(actor: ActorHandle[Any] | Actor, *more: Never, no_restart: bool = True) -> None:
    """End an actor's process at once. The running call fails with ``RayActorError``; killing twice does nothing.

    Args:
        actor: its handle.
        *more: nothing is accepted.
        no_restart: False lets ``max_restarts`` start it again.

    Raises:
        RayConnectionError: there is no session.
        ValueError: ``actor`` is no handle.
        TypeError: ``no_restart`` is no bool, or there are more arguments.
    """
    runtime = current_session()
    if more:
        raise TypeError(
            "ray.kill() takes one actor, and 'no_restart' by name, as in ray.kill(actor, no_restart=False); "
            f"{more[0]!r} ({type(more[0]).__name__}) is one argument too many. For several: for actor in actors: "
            "ray.kill(actor)."
        )
    if not isinstance(actor, ActorHandle):
        from ray.api import advice  # not before it is needed

        raise ValueError(
            f"ray.kill() only supported for actors: it takes an actor handle, not {actor!r} ({type(actor).__name__}). "
            f"{advice.for_kill(actor)}"
        )
    if not isinstance(no_restart, bool):
        raise TypeError(f"no_restart must be True or False, not {no_restart!r}")
    runtime.kill_actor(actor._core, no_restart)


def get_actor(name: str, namespace: str | None = None) -> ActorHandle[Any]:
    """The handle of the live actor of that name.

    Args:
        name: as given in ``options(name=...)``.
        namespace: None is that of this session.

    Raises:
        RayConnectionError: there is no session.
        TypeError: a name that is no string.
        ValueError: an empty name, or no live actor of that name.
    """
    runtime = current_session()
    given: object = name
    if not isinstance(given, str):
        from ray.api import advice  # not before it is needed

        raise TypeError(
            f"Actor name must be a string, not {given!r} ({type(given).__name__}): {advice.for_get_actor(given)}."
        )
    name = check_name(name, "Actor")
    if namespace is not None:
        namespace = check_name(namespace, "Namespace")
    return ActorHandle(runtime.get_named_actor(name, namespace))


def exit_actor() -> None:
    """End the actor that this is called in, after what runs now; the call itself does not return.

    Raises:
        RayConnectionError: there is no session.
        TypeError: not inside an actor.
    """
    runtime = current_session()
    if runtime.context().get("actor_id") is None:
        raise TypeError("exit_actor() was called outside of an actor; to end one from outside, use ray.kill(handle).")
    runtime.exit_actor()
