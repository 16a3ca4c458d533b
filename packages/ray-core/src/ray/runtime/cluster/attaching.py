"""Which node of this machine a program joins that names a cluster."""

from __future__ import annotations

import socket

from ray.clock import monotonic, sleep
from ray.exceptions import RayConnectionError
from ray.runtime.cluster.control_server import check_control, nobody_answers
from ray.runtime.cluster.key_file import ROUTED
from ray.runtime.cluster.key_folder import FoundKey, KeyFolder
from ray.runtime.cluster.key_lookup import key_at, key_named, only_key
from ray.runtime.cluster.local_clusters import LocalCluster, local_clusters
from ray.runtime.cluster.places import Place, is_same, parse_place
from ray.runtime.cluster.wanted import WantedCluster
from ray.runtime.process.session_dirs import sweep_sessions

_LOOK_S = 0.05


def key_of(wanted: WantedCluster, folder: KeyFolder, timeout_s: float) -> FoundKey:
    """Its key file.

    Raises:
        RayConnectionError: there is none, or nobody is there.
        KeyFileError: it cannot be used.
    """
    if wanted.place is None:
        return key_named(wanted.name, folder, wanted.source) if wanted.name else only_key(folder, wanted.source)
    try:
        return key_at(wanted.place, folder, wanted.source)
    except RayConnectionError:
        _dial(wanted.place, wanted.source, timeout_s)  # without a cluster, the key file is the smaller problem
        raise


def node_of(wanted: WantedCluster, timeout_s: float) -> str | FoundKey:
    """The session directory of a node of it on this machine; or its key, where none is here.

    Args:
        wanted: the cluster.
        timeout_s: how long to wait for an answer of its control server.

    Raises:
        RayConnectionError: the cluster does not answer, there is no key file for it, or none of its nodes is here or
            can be reached.
        RaySystemError: what answers is another cluster than the key file is for.
        KeyFileError: the key file cannot be used.
    """
    sweep_sessions()
    here = [cluster for cluster in local_clusters().values() if _is_meant(cluster, wanted)]
    if len(here) == 1 and here[0].nodes:  # of this user: it needs no key
        return here[0].nodes[0].session_dir
    found = key_of(wanted, KeyFolder(), timeout_s)
    key = found.key
    end = monotonic() + timeout_s
    while (cluster := local_clusters().get(key.session)) is not None:
        if cluster.nodes:
            return cluster.nodes[0].session_dir
        if monotonic() > end:
            raise RayConnectionError(
                f"The node manager of the head of cluster {key.name!r} at {key.place} (from {wanted.source}) has died, "
                f"and another one is not there within {timeout_s:g} s: it is being started, so try again, or give a "
                "longer connect_timeout_s."
            )
        sleep(_LOOK_S)  # its keeper is there, and starts a node manager again
    check_control(key, found.path, wanted.source, timeout_s)
    if key.transport == ROUTED:
        return found
    raise RayConnectionError(
        f"Cluster {key.name!r} answers at {key.place} (from {wanted.source}), its nodes can be reached on their own "
        f"machine only, and none of them is found here: start one with `ray start --address={key.place}`, or the head "
        "with --host ADDRESS, which others can reach."
    )


def _is_meant(cluster: LocalCluster, wanted: WantedCluster) -> bool:
    if wanted.place is None:
        return bool(wanted.name) and cluster.name == wanted.name
    place = parse_place(cluster.address)
    return place is not None and is_same(place, wanted.place)


def _dial(place: Place, source: str, timeout_s: float) -> None:
    try:
        socket.create_connection(place, timeout_s).close()
    except OSError as error:
        raise nobody_answers(place, source, error) from None
