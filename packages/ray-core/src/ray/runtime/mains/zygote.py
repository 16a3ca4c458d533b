"""The zygote: a single-threaded process with everything imported, which forks workers in milliseconds.

Their parent is the node manager (a subreaper): that one reaps them, learns how they ended, and takes them along when it
dies itself.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import linecache
import os
import signal
import socket
import sys
import traceback
from typing import NoReturn

from ray.clock import tzset
from ray.exceptions import RayConnectionError
from ray.exceptions.shadowed import shadowing
from ray.plugins.compose import Composition
from ray.plugins.plan import ResolvedPlan
from ray.runtime import interface
from ray.runtime.node.births import fork_grandchild
from ray.runtime.node.chores import do_chore
from ray.runtime.node.forking import MAX_TEXT_CHARS, Forked, ForkRequest, encode, place
from ray.runtime.node.renewals import Renewals
from ray.runtime.node.survivor import NodeSurvivor
from ray.runtime.process.marks import mark_process
from ray.runtime.process.node_start import JobConfig, NodeConfig, job_file
from ray.runtime.process.supervision import die_with_parent
from ray.runtime.process.titles import IDLE, set_title
from ray.runtime.worker.native_threads import NativeThreads

#: What every worker comes to import; pickles of functions and classes name it.
_NEEDED = ("cloudpickle", "ray.api.decorator", "ray.api.objects", "ray.api.actors", "ray.api.inspection")

#: After the first worker, what executors take is imported once nothing was asked for in so long.
_REST_S = 0.05


def serve(
    channel: socket.socket, config: NodeConfig, node: int, slots: memoryview, renewals: Renewals, lifeline: int
) -> NoReturn:
    """Fork workers as the node manager asks for them."""
    interface.own_process = "the one that forks workers"
    threads = NativeThreads()
    composition = Composition(ResolvedPlan.from_json(config.plan))
    # First what the runtime needs: a module of the program may have the name of one of these.
    import_needed()
    is_prepared = config.cluster is None  # others may never have a worker
    composition.prepare(executors=is_prepared)
    composition.plan.digest  # noqa: B018 - which keeps it; each worker tells it to whom it meets
    own_path, sys.path[:] = sys.path[:], config.sys_path
    for name in config.preload:
        _preload(name)
    linecache.cache.pop("<string>", None)  # what began this process; in workers the name is that of the user's text
    set_title("zygote")
    gc.collect()
    gc.freeze()
    survivor = NodeSurvivor(channel, lifeline, renewals, node, config)
    while True:
        request, fds = survivor.request()
        if request.chore:
            if fork_grandchild(lambda pid, why: None):  # the pipe tells that there is none
                _do_chore(survivor, node, request.chore, fds[0])
        elif fork_grandchild(functools.partial(_announce, channel, request.worker)):
            _be_worker(survivor, config, composition, node, request, fds, slots, threads)
        for fd in fds:
            os.close(fd)
        if not is_prepared and request.worker and survivor.rests(_REST_S):
            is_prepared = True
            sys.path[:] = own_path
            composition.prepare()
            sys.path[:] = config.sys_path
            gc.freeze()


def import_needed() -> None:
    """Import what every worker comes to need."""
    for name in (*_NEEDED, "setproctitle"):  # the latter shows more of a name than the kernel keeps
        _preload(name)


def _enter_job(config: NodeConfig, name: str, cwd: list[int]) -> JobConfig:
    """Be a process of a job from here on: its path for modules, its directory, its mark. Returns what it wants."""
    mark_process(config.instance, name)
    with open(job_file(config.session_dir, name), "rb") as file:
        job = JobConfig.from_json(file.read())
    os.environ.update(job.env_vars)
    if "TZ" in job.env_vars:
        tzset()
    for folder in cwd:
        os.fchdir(folder)
    if sys.path != job.sys_path:
        sys.path[:] = job.sys_path
        importlib.invalidate_caches()
    return job


def _do_chore(survivor: NodeSurvivor, node: int, request: bytes, answer: int) -> NoReturn:
    try:
        survivor.close()
        if sys.platform == "linux":
            die_with_parent(node)
        set_title("unpacking")
        do_chore(request, answer)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _preload(name: str) -> None:
    with contextlib.suppress(Exception):  # a module that cannot be preloaded fails where it is used
        importlib.import_module(name)


def _announce(channel: socket.socket, worker: bytes, pid: int, why: str) -> None:
    with contextlib.suppress(OSError):  # the node manager's end is seen to elsewhere
        channel.send(encode(Forked(worker, pid, "" if pid else why[:MAX_TEXT_CHARS])))


def _be_worker(
    survivor: NodeSurvivor,
    config: NodeConfig,
    composition: Composition,
    node: int,
    request: ForkRequest,
    fds: list[int],
    slots: memoryview,
    threads: NativeThreads,
) -> NoReturn:
    try:
        survivor.close()
        if sys.platform == "linux":
            die_with_parent(node)
        os.setpgid(0, 0)
        os.dup2(fds[0], 1)
        os.dup2(fds[1], 2)
        job = _enter_job(config, request.job, fds[2:])
        for fd in fds:
            os.close(fd)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # for the programs that its tasks start
        set_title(IDLE)
        from ray.runtime.mains.worker import worker_main

        worker_main(config, job, composition, request, slots[place(request.slot)], threads)
    except RayConnectionError as error:  # the store, or the node manager, has ended meanwhile
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    except BaseException as error:
        traceback.print_exc()
        print(shadowing(error), end="", file=sys.stderr, flush=True)
    finally:
        os._exit(1)
