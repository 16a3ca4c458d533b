"""Actors under their older import path: ``ray.actor.ActorHandle``, ``ray.actor.exit_actor()``."""

from ray.api.actor_calls import exit_actor
from ray.api.actor_method import ActorMethod
from ray.api.actors import ActorClass, ActorHandle

__all__ = ["ActorClass", "ActorHandle", "ActorMethod", "exit_actor"]
