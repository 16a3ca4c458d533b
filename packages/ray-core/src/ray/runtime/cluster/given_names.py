"""Names that users give to clusters and nodes, and what else they say about them."""

from __future__ import annotations

import re

from ray.messages.placement import NAME_FORM
from ray.runtime.cluster.wanted import ADDRESS_WORDS, NAME

#: How values are encrypted between nodes.
ENCRYPTIONS = ("auto", "aes-gcm", "none")
#: What can be waited for; a day is as good as for ever.
LEAST_WAIT_S, MOST_WAIT_S = 0.1, 86_400.0
_LABEL = re.compile(NAME_FORM)


def cluster_name(given: str) -> str:
    """That of a cluster.

    Raises:
        TypeError: it is no text.
        ValueError: it is no name, or means something else as an address.
    """
    if not NAME.fullmatch(_text("name", given)):
        raise ValueError(f"{given!r} is no name of a cluster: up to 40 of a-z 0-9 . _ -, the first a letter or digit")
    if given in ADDRESS_WORDS:
        raise ValueError(f"{given!r} is no name of a cluster: as an address it means something else")
    return given


def node_name(given: str) -> str:
    """What a node is called over all its lives.

    Raises:
        TypeError: it is no text.
        ValueError: it is no name, or reads as a NodeID.
    """
    if not _LABEL.fullmatch(_text("node_name", given)):
        raise ValueError(f"{given!r} is no name: up to 63 letters, digits and . _ - / between letters or digits")
    if re.fullmatch("[0-9a-f]{8}", given):
        raise ValueError(f"{given!r} is no name of a node: 8 hexadecimal digits are a NodeID")
    return given


def label(given: str) -> str:
    """The key or the value of a label.

    Raises:
        TypeError: it is no text.
        ValueError: it is no label.
    """
    if not _LABEL.fullmatch(_text("labels", given)):
        raise ValueError(f"{given!r} is no label: up to 63 letters, digits and . _ - / between letters or digits")
    return given


def _text(what: str, given: str) -> str:
    if not isinstance(given, str):
        raise TypeError(f"{what} takes text, not {given!r}")
    return given
