"""Where code runs, under the path by which programs of Ray import it."""

from ray.api.context import RuntimeContext, get_runtime_context

__all__ = ["RuntimeContext", "get_runtime_context"]
