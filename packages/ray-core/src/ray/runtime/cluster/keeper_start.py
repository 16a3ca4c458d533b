"""What a keeper is told at its start, and what it answers."""

from __future__ import annotations

from ray.runtime.process.node_start import NodeConfig, Told


class KeeperConfig(Told, frozen=True):
    """What the program says that starts a head."""

    session: str
    """Of the cluster, and of its first node."""
    folder: str
    """The keeper's own, which bears the name of the session: it is made, and swept when it is dead, as that of one."""
    key_path: str
    """Where the key file is to be."""
    host: str
    """Where the control server listens, in numbers; or where one is that exists."""
    port: int
    may_choose_port: bool
    """If the port is taken, another one will do."""
    node: NodeConfig
    """Of the head's node, whose plan says how the control server is started."""
    control: str = ""
    """URL of a control server that exists, with user and password; empty: one is started."""
    is_foreground: bool = False
    """The cluster ends with the program that starts it."""


class KeeperAnswer(Told, frozen=True):
    """How the start went."""

    address: str = ""
    """What users give."""
    session_dir: str = ""
    """Of the head's node."""
    error: str = ""
    """Why there is no cluster; nothing is left of it then."""
    is_unreachable: bool = False
    """It is because a server cannot be reached."""
    key_reason: str = ""
    """Why the key file that is there cannot be used, if that is the reason."""


#: What the program says when it has heard the answer; otherwise the cluster ends.
HEARD = b"1"
