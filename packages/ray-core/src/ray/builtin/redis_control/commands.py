"""What the handles send to a server: all that its user is allowed."""

from __future__ import annotations

from ray.builtin.redis_control.keys import KeySpace

USER = "ray"

#: Commands as they go over the wire, in lower case. A test compares them with what the contract suite sends.
COMMANDS = (
    "client|setname", "del", "exec", "exists", "get", "getdel", "info", "llen", "lrange", "ltrim",
    "multi", "persist", "pexpire", "ping", "pttl", "publish", "rpush", "set", "subscribe", "time", "type", "unwatch",
    "watch", "xadd", "xinfo|stream", "xrange", "xrevrange", "zadd", "zrange", "zrem",
)  # fmt: skip


def acl_rules(name: str) -> str:
    """The rules of the user, without its name and password: the keys and channels of one cluster, these commands."""
    pattern = KeySpace.pattern(name)
    allowed = " ".join(f"+{command}" for command in COMMANDS)
    return f"resetkeys ~{pattern} resetchannels &{pattern} -@all {allowed}"
