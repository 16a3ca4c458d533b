"""A program's directory on every node of its cluster: a copy, for as long as the job lasts."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

import ray
from ray.exceptions import RayActorError, RuntimeEnvSetupError
from ray.runtime.process.packed_directory import PIECE_BYTES, PackedDirectory
from ray.testing import eventually, inside

FAR = {"resources": {"far": 1}}


@pytest.fixture
def program(tmp_path):
    """A directory with a module and 1,000 files."""
    root = tmp_path / "program"
    (root / "files").mkdir(parents=True)
    for number in range(1000):
        (root / "files" / str(number)).write_text(str(number))
    write(root, 1)
    return root


def write(root: Path, value: int) -> None:
    (root / "sent_module.py").write_text(f"VALUE = {value}\n\ndef f():\n    return VALUE\n")


@ray.remote
def look():
    import sys

    import sent_module

    files = sum(int((Path("files") / str(number)).read_text()) for number in range(1000))
    place = os.getcwd()
    assert sys.path[0] == place == os.path.dirname(sent_module.__file__)
    return ray.get_runtime_context().node_id, place, files, sent_module.f()


@ray.remote
class Looking:
    def look(self):
        return ray.get(look.options(num_cpus=0).remote()), os.environ["GREETING"]

    def die(self):
        os._exit(1)


def copies(cluster):
    """What there is of directories that programs have sent."""
    dirs = [node.started.session_dir for node in cluster.nodes]
    return [str(path) for each in dirs for path in Path(each).glob("working_dir-*")]


def test_every_node_has_a_copy_until_the_job_ends(cluster, program):
    with ray.init(cluster.address, working_dir=str(program)):
        shutil.rmtree(program)  # nobody looks there
        answers = ray.get([look.options(**FAR).remote(), *(look.remote() for _ in range(30))], timeout=60)
        assert {answer[2:] for answer in answers} == {(499_500, 1)}
        places = {answer[:2] for answer in answers}
        assert {node for node, _ in places} == {node.node_id for node in cluster.nodes}
        assert len(places) == 2  # one on each node, for all of its workers
        for _, place in places:
            assert os.stat(place).st_mode & 0o777 == 0o700
        assert {os.path.dirname(place) for _, place in places} == {node.started.session_dir for node in cluster.nodes}
        inside.settled()
    eventually(lambda: copies(cluster) == [])


def test_what_is_changed_is_what_the_next_job_runs(cluster, program):
    for value in (1, 2):
        write(program, value)
        with ray.init(cluster.address, working_dir=program):
            write(program, 77)  # too late for this one
            answers = ray.get([look.remote(), look.options(**FAR).remote()], timeout=30)
            assert [answer[3] for answer in answers] == [value, value]
            inside.settled()
    eventually(lambda: copies(cluster) == [])


def test_a_large_one_arrives_in_pieces_for_two_programs_at_a_time(cluster, program, tmp_path):
    data = os.urandom(5 * PIECE_BYTES)
    (program / "data").write_bytes(data)

    @ray.remote
    def read():
        return Path("data").read_bytes()

    with ray.init(cluster.address, working_dir=program):
        assert ray.get(read.options(**FAR).remote(), timeout=30) == data
        inside.settled()


def test_actors_and_what_they_submit(cluster, program):
    environment = {"working_dir": program, "env_vars": {"GREETING": "hello = there"}}
    with ray.init(cluster.address, runtime_env=environment):
        shutil.rmtree(program)
        actors = [Looking.options(num_cpus=0, max_restarts=1, **each).remote() for each in ({}, FAR)]
        for actor in actors:
            (_, _, *found), greeting = ray.get(actor.look.remote(), timeout=30)
            assert (found, greeting) == ([499_500, 1], "hello = there")
            actor.die.remote()
        for actor in actors:
            again = eventually(lambda actor=actor: looked(actor))
            assert again[1] == "hello = there"
        del actors, actor
        inside.settled()
    assert "GREETING" not in os.environ
    eventually(lambda: copies(cluster) == [])


def looked(actor):
    try:
        return ray.get(actor.look.remote(), timeout=30)
    except RayActorError:
        return None


def test_a_node_that_cannot_have_it_says_so_for_every_task(cluster, program):
    far = cluster.nodes[1]
    title = f"{far.name} (at 127.0.0.1, NodeID {far.node_id})"
    with ray.init(cluster.address, working_dir=program):
        job = ray.get_runtime_context().job_id
        in_the_way = Path(far.started.session_dir, f"working_dir-{job}-1.zip")
        in_the_way.write_text("")
        for _ in range(2):
            with pytest.raises(RuntimeEnvSetupError, match=re.escape(f"is not there on node {title}, and")) as told:
                ray.get(look.options(max_retries=0, **FAR).remote(), timeout=30)
            assert (told.value.node, "cannot be written down" in told.value.reason) == (title, True)
        with pytest.raises(RuntimeEnvSetupError) as raised:
            ray.get(Looking.options(num_cpus=0, **FAR).remote().look.remote(), timeout=30)
        assert isinstance(raised.value, RayActorError)
        assert ray.get(look.options(num_cpus=2, max_retries=0).remote(), timeout=30)[0] == cluster.nodes[0].node_id
        rows = [row for row in ray.error_info() if row["type"] == "runtime_env_setup_failed"]
        assert [title in row["message"] for row in rows] == [True]
        inside.settled()
    eventually(lambda: copies(cluster) == [])


def test_what_is_damaged_on_its_way_is_not_used(cluster, program, monkeypatch):
    true_piece = PackedDirectory.piece

    def damaged(self, job, offset):
        piece = true_piece(self, job, offset)
        return type(piece)(job, offset, bytes([piece.data[0] ^ 1]) + piece.data[1:])

    monkeypatch.setattr(PackedDirectory, "piece", damaged)
    with ray.init(cluster.address, working_dir=program):
        for options in ({}, FAR):
            with pytest.raises(RuntimeEnvSetupError, match="the ZIP file is damaged: its checksum is wrong"):
                ray.get(look.options(**options).remote(), timeout=30)
        inside.settled()
    eventually(lambda: copies(cluster) == [])


def test_what_is_refused_is_refused_before_the_program_joins(cluster, tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        ray.init(cluster.address, working_dir=tmp_path / "nope")
    with pytest.raises(ValueError, match=r"'pip'. It is not in this release. Install packages"):
        ray.init(cluster.address, runtime_env={"pip": ["x"]})
    assert not ray.is_initialized()
    with ray.init(cluster.address):
        assert int(ray.get_runtime_context().job_id, 16) == 1


def test_a_program_that_is_killed_leaves_none(cluster, program, machine):
    text = f"""
    ray.init({cluster.address!r}, working_dir={str(program)!r})

    @ray.remote(resources={{"far": 1}})
    def f():
        print(os.getcwd(), flush=True)
        time.sleep(60)

    f.remote()
    print("begun", flush=True)
    time.sleep(60)
    """
    process = machine.program(text)
    eventually(lambda: len(copies(cluster)) == 4)  # with the files
    process.kill()
    process.communicate()
    eventually(lambda: copies(cluster) == [])
