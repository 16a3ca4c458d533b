"""Messages as bytes."""

from __future__ import annotations

from ray.exceptions import UnpicklableError
from ray.exceptions.base import comes_from_handler
from ray.messages import codec

#: For errors about what no message can hold.
ADVICE = "Names must be text that UTF-8 can encode, and numbers must fit into 64 bits."


def encode(message: object) -> bytes:
    """A message as bytes.

    Raises:
        UnpicklableError: it holds what cannot be encoded.
    """
    try:
        return codec.encode(message)
    except codec.UNENCODABLE as error:
        if comes_from_handler(error):
            raise
        raise UnpicklableError(f"a message ({type(message).__name__})", str(error), ADVICE) from error
