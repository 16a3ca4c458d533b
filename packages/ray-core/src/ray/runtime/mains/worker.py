"""Entry of a worker process, right after the zygote's fork."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from typing import NoReturn

from ray.ids import node_number
from ray.messages import node, wire
from ray.plugins.compose import Composition
from ray.runtime import interface
from ray.runtime.node.forking import ForkRequest
from ray.runtime.owner.here import Here
from ray.runtime.process.admission import knock
from ray.runtime.process.forked import watch_forks
from ray.runtime.process.node_start import JobConfig, NodeConfig
from ray.runtime.process.signal_guard import SignalGuard
from ray.runtime.worker import child_files, terminal
from ray.runtime.worker.driver_path import DriverPath
from ray.runtime.worker.idle_poll import IdlePoll
from ray.runtime.worker.native_threads import NativeThreads
from ray.runtime.worker.process_end import end_process
from ray.runtime.worker.streams import install_streams
from ray.runtime.worker.worker import WorkerRuntime


def worker_main(
    config: NodeConfig,
    job: JobConfig,
    composition: Composition,
    request: ForkRequest,
    slot: memoryview,
    threads: NativeThreads,
) -> NoReturn:
    """Serve until the node manager, or an actor's end, says stop. Keeps the main thread."""
    worker_id, node_address = request.worker, request.address
    transport = composition.open_transport(config.session_dir, node_number(worker_id))
    store = composition.open_store(config.store_address)
    here = Here(config.session, worker_id, job.namespace)
    here.name(worker_id, request.job)
    runtime = WorkerRuntime(here, transport, store, composition, slot, threads)
    runtime.address_info = {"node_ip_address": config.host}
    desk = runtime.desk
    executor = desk.executor  # the worker may be made an actor, which has another one, as soon as it is ready
    threads.leave(job.env_vars)
    if job.lack:
        runtime.code.lack = runtime.actor.lack = job.lack, config.shown_node(worker_id)
    if config.gpu_ids:
        runtime.gpus.show([])
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    install_streams(runtime.current_name, runtime.output)
    terminal.install()
    child_files.keep_in(config.session_dir)
    faulthandler.enable(2, all_threads=False)  # the stack of a crash ends up in the error that the owner gets
    signal.signal(signal.SIGINT, runtime.interrupting.handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    SignalGuard(runtime.interrupting.handler, lambda: desk.this_call() is not None).install()
    is_lent = job.is_guest or job.home != node_number(worker_id)
    own = knock(transport, f"w-{worker_id.hex()}", node_address, runtime.peers.hello_of, is_lent=is_lent)
    runtime.attach(*own, node_address)
    inbox = runtime.inbox
    inbox.handlers |= {
        wire.Push: runtime.intake.on_push,
        wire.Recall: runtime.giving_back.on_recall,
        wire.Cancel: runtime.cancellations.on_cancel,
        wire.Forget: runtime.arguments.on_forget,
        wire.Taken: desk.on_taken,
    }
    inbox.node_handlers |= {
        node.StartActor: runtime.on_start_actor,
        wire.Terminate: lambda message: runtime.becoming.on_terminate(),
        node.Exit: runtime.on_exit,
    }
    runtime.events.wanted = config.events
    interface.set_current(runtime)
    interface.own_process = ""  # a child that a task forks may start a session of its own
    watch_forks(runtime)
    runtime.polling.start()
    sys.meta_path.append(DriverPath(runtime, sends=job.package is not None))
    runtime.plugins.join()
    os.umask(job.umask)  # for the program's files; those of the session are private whatever it is
    runtime.node.send(node.Ready(worker_id, runtime.address))
    executor.submit(IdlePoll(desk, runtime.life, runtime.actor, runtime.replies, runtime.polling, executor))
    while True:
        try:
            executor.run()
        except BaseException as error:
            runtime.ending.run(1, str(error))
        following, desk.next_executor = desk.next_executor, None
        if following is None:
            end_process(runtime.ending, 0)
        executor = following
