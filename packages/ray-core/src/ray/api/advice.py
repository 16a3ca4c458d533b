"""What to write instead where a call was given something of the wrong kind. Read only once a call has failed."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence

from ray.api.actor_method import ActorMethod
from ray.api.actors import ActorClass, ActorHandle
from ray.api.remote_function import RemoteFunction
from ray.runtime.refs.generator import ObjectRefGenerator
from ray.runtime.refs.ref import ObjectRef

_STREAM = "a stream, which gives references one by one, each when it is ready"
_AWAIT_STREAM = (
    f": it is {_STREAM}. 'for ref in stream:' waits for each, and 'async for ref in stream:' does so beside other work"
)


def for_get(given: object) -> str:
    """A sentence about something that is no reference and no list of them, or nothing."""
    if isinstance(given, (str, bytes)):
        return ""
    if isinstance(given, ObjectRefGenerator):
        return f" It is {_STREAM}. Use [ray.get(ref) for ref in it]."
    if isinstance(given, Mapping):
        return " Make a list of its values: ray.get(list(it.values()))."
    if isinstance(given, (tuple, set, frozenset)) and given and not any(isinstance(item, ObjectRef) for item in given):
        return " It holds no references: what is in it is had already."
    if isinstance(given, Iterable):
        # Not one by one: what submits as it is iterated would run one task at a time.
        return " Make a list of it: ray.get(list(it))."
    makes = _what_makes_refs(given)
    return makes and f"{makes}."


def for_wait(given: object) -> str:
    """About something that is no list of references."""
    if isinstance(given, ObjectRef):
        return "; put it in a list, with all others: ray.wait([ref1, ref2])"
    if isinstance(given, ObjectRefGenerator):
        return _AWAIT_STREAM
    if isinstance(given, (str, bytes)):
        return ""
    if not isinstance(given, Iterable):
        makes = _what_makes_refs(given)
        return makes and f".{makes}, and a list of references is taken: ray.wait([ref])"
    return "; make a list of it: ray.wait(list(it))"


def for_element(given: object) -> str:
    """About an element of a list of references that is none."""
    if isinstance(given, (list, tuple)):
        return ": a list in the list. One flat list is taken, such as [*refs, *others]"
    if isinstance(given, ObjectRefGenerator):
        return f": it is {_STREAM}. Draw them first: [*stream] is a list of all, and next(stream) the next one"
    makes = _what_makes_refs(given)
    return makes and f".{makes}"


def for_cancel(given: object) -> str:
    """About something that is no reference, alone or in a list."""
    if isinstance(given, ObjectRefGenerator):
        return ". Its close() cancels the task"
    if isinstance(given, ActorHandle):
        return ". ray.kill(actor) ends an actor; the reference that a call has returned cancels that call"
    if isinstance(given, (ActorMethod, ActorClass, RemoteFunction)):
        return ". What its remote() has returned is the reference: ref = f.remote(), then ray.cancel(ref)"
    return ""


def for_kill(given: object) -> str:
    """A sentence about something that is no handle of an actor."""
    if isinstance(given, str):
        return f"ray.kill(ray.get_actor({given!r})) ends an actor by its name."
    if isinstance(given, ActorMethod):
        return "Give it the actor, without a method: ray.kill(actor)."
    if isinstance(given, (ActorClass, type)):
        return "The handle is what remote() of the class has returned: actor = A.remote(), then ray.kill(actor)."
    if isinstance(given, ObjectRefGenerator):
        return "Its close() cancels the task."
    if isinstance(given, Sequence):
        return "For several: for actor in actors: ray.kill(actor)."
    return "For tasks there is ray.cancel()."


def for_get_actor(given: object) -> str:
    """About something that is no name."""
    if isinstance(given, ActorHandle):
        return "this is a handle already, and can be used as it is"
    return "the one that the actor was given, as in A.options(name='a').remote()"


def _what_makes_refs(given: object) -> str:
    """How to get a reference from what was given in the place of one, without the full stop; or nothing."""
    if isinstance(given, types.MethodType):  # f.remote, without its parentheses
        given = given.__self__
    if isinstance(given, (ActorHandle, ActorMethod)):
        return " Only a call returns a reference: actor.method.remote()"
    if isinstance(given, RemoteFunction):
        return " Only a call returns a reference: f.remote()"
    if isinstance(given, ActorClass):
        return " A.remote() makes an actor of the class; calls of its methods return references"
    return ""
