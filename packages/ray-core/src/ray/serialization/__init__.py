"""Values, functions and failures as bytes. The only room that pickles; opened in drivers and workers only."""

from ray.serialization.apart import dump_apart, load_apart
from ray.serialization.blob import Serialized, deserialize, deserialize_aligned, deserialize_copy, pickle_of
from ray.serialization.captures import largest_captures
from ray.serialization.caused import failed_start, failed_start_envelope, unreadable
from ray.serialization.culprit import parts_of
from ray.serialization.envelope import (
    ORDERLY,
    SYSTEM,
    Envelope,
    make_envelope,
    open_envelope,
    read_any_envelope,
    read_envelope,
    same_for,
)
from ray.serialization.pickling import (
    EMPTY_ARGS,
    args_blob,
    dump_function,
    is_importable,
    load_function,
    register_reducer,
    serialize,
    serialize_args,
    serialize_small,
    why_unpicklable,
)

__all__ = [
    "EMPTY_ARGS",
    "ORDERLY",
    "SYSTEM",
    "Envelope",
    "Serialized",
    "args_blob",
    "deserialize",
    "deserialize_aligned",
    "deserialize_copy",
    "dump_apart",
    "dump_function",
    "failed_start",
    "failed_start_envelope",
    "is_importable",
    "largest_captures",
    "load_apart",
    "load_function",
    "make_envelope",
    "open_envelope",
    "parts_of",
    "pickle_of",
    "read_any_envelope",
    "read_envelope",
    "register_reducer",
    "same_for",
    "serialize",
    "serialize_args",
    "serialize_small",
    "unreadable",
    "why_unpicklable",
]
