"""What the processes of a node need so that those of other nodes reach them: an address, ports, and keys."""

from __future__ import annotations

import os

import msgspec

from ray.builtin.redis_control.access import write_private
from ray.plugins.plan import ResolvedPlan
from ray.runtime.cluster.key_file import read_key_file
from ray.runtime.process.node_start import ClusterConfig

#: In the session's directory. Workers have these keys; what else is in the key file they have not.
_FILE = "far-keys.json"


def with_far_keys(plan: ResolvedPlan, cluster: ClusterConfig, session_dir: str) -> ResolvedPlan:
    """The plan for this machine's processes, whose keys are in a file of the session from now on.

    A plan without a transport for other machines stays as it is, and so does that of a cluster without a key file.

    Raises:
        KeyFileError: the cluster's key file cannot be used.
    """
    transport = plan.transport
    far = transport.inner.get("far")
    if far is None or not cluster.key_file:
        return plan
    path = os.path.join(session_dir, _FILE)
    write_private(path, msgspec.json.encode(read_key_file(cluster.key_file).curve).decode())
    low, high = cluster.ports
    wanted = {"host": cluster.host, "ports": f"{low}-{high}" if low else "", "key_file": path}
    here = {name: value for name, value in wanted.items() if name in far.machine_options}
    far = msgspec.structs.replace(far, options=far.options | here)
    transport = msgspec.structs.replace(transport, inner={**transport.inner, "far": far})
    return msgspec.structs.replace(plan, parts={**plan.parts, "transport": transport})
