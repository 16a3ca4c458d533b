"""The word count of ``wordcount.py`` on a cluster of three nodes, which this program starts on this machine, and ends.

    python examples/cluster_wordcount.py [--limit N] [--top N]

Each node is a command that runs beside this program:

    ray start --head --block
    ray start --address NAME --block

From ``ray.init(redis_address=...)`` on, it is a program for any cluster. The result is compared with that of a serial
run; the exit code is 1 unless both are equal. Needs ray-core[cluster], and a Redis server on PATH.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import wordcount

import ray

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RAY = (sys.executable, "-m", "ray")
#: Of the cluster; several of these programs may run at the same time.
NAME = f"wordcount-{os.getpid()}"
NODES = ("first", "second", "third")
CHUNKS = 24
INTERRUPTED = 130


def start_node(*options: str) -> subprocess.Popen[str]:
    """Start a node of one processor, which ends with its command."""
    command = (*RAY, "start", *options, "--num-cpus", "1", "--block")
    # In a session of its own, so that a Ctrl-C reaches this program alone, which then ends the nodes.
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """A cluster of three nodes; nothing is left of it, however the block ends."""
    nodes: list[subprocess.Popen[str]] = []
    with tempfile.TemporaryDirectory(prefix="wordcount-") as home:
        os.environ["RAY_HOME"] = home  # where the key file of the cluster is; the user's own are elsewhere
        try:
            for name in NODES:
                which = ("--address", NAME) if nodes else ("--head", "--name", NAME)
                nodes.append(start_node(*which, "--node-name", name))
                assert nodes[-1].stdout is not None
                if not nodes[-1].stdout.readline():  # it says a line when it runs, and else why it does not
                    sys.exit(1)
            yield
        finally:
            for node in nodes:
                node.terminate()
            for node in nodes:
                node.wait()


def described() -> tuple[str, dict[str, str]]:
    """The address of the cluster, and {id: name} of its nodes."""
    facts = json.loads(subprocess.check_output((*RAY, "status", "--name", NAME, "--format", "json")))
    return facts["address"], {node["node_id"]: node["node_name"] for node in facts["nodes"]}


@ray.remote(num_return_vals=2)
def count_chunk(paths: wordcount.Chunk, stop_words: frozenset[str]) -> tuple[wordcount.Counts, str]:
    """Counts of the words in some files, and the id of the node that has counted them."""
    counts, _ = wordcount.count_words(paths, stop_words)
    return counts, ray.get_runtime_context().node_id


def count(chunks: Sequence[wordcount.Chunk]) -> tuple[wordcount.Counts, collections.Counter[str]]:
    """Map over the chunks in tasks, reduce in an actor; the counts, and {id of a node: tasks that it has run}."""
    stop_words = ray.put(wordcount.STOP_WORDS)
    total = wordcount.TotalActor.remote()
    tasks: collections.Counter[str] = collections.Counter()
    pending: list[Any] = []
    for chunk in chunks:
        counts, node = count_chunk.remote(chunk, stop_words)
        total.add.remote(counts)
        pending.append(node)
    while pending:
        ready, pending = ray.wait(pending, num_returns=len(pending), timeout=timedelta(milliseconds=100))
        tasks.update(ray.get(ready))
        wordcount.progress(len(chunks) - len(pending), len(chunks))
    return ray.get(total.result.remote()), tasks


def main() -> int:
    options = wordcount.arguments(__doc__)
    sizes = wordcount.sizes_of(wordcount.source_files(options.limit))
    chunks = wordcount.chunks_of(sizes, CHUNKS)
    print(f"{len(sizes):,} files, {sum(sizes.values()) / 1e6:.1f} MB, {len(chunks)} chunks")
    with cluster():
        address, names = described()
        print(f"{len(names)} nodes, at {address}", flush=True)
        with ray.init(redis_address=address):
            counts, tasks = count(chunks)
    for id, name in names.items():
        print(f"{tasks[id]:>9,}  tasks on node {name!r}")
    wordcount.show(counts, options.top)
    expected, _ = wordcount.count_words(sizes, wordcount.STOP_WORDS)
    if counts != expected:
        print("cluster_wordcount: the result differs from that of a serial run", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends the nodes as well
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
