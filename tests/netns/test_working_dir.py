"""The files of a program on hosts that do not have them."""

from __future__ import annotations

import os

from tests.netns.test_hosts import start_cluster

from ray.testing import eventually

WORK = """
    import shutil
    ray.init({address!r}, working_dir={folder!r}, runtime_env={{"env_vars": {{"MODE": "trial"}}}})
    shutil.rmtree({folder!r})

    @ray.remote
    def look():
        import sent_far
        time.sleep(0.05)
        assert os.environ["MODE"] == "trial"
        assert len(open("data", "rb").read()) == 3_000_000
        return ray.get_runtime_context().get_node_id(), sent_far.__file__, sent_far.VALUE

    def everywhere():
        seen, until = set(), time.monotonic() + 20
        while len(seen) < {count} and time.monotonic() < until:
            seen |= set(ray.get([look.remote() for _ in range(40)]))
        return seen

    here = everywhere()
    there = ray.get(ray.remote(everywhere).options(resources={{"far": 1}}, num_cpus=0).remote())
    print(len(here), len({{node for node, _, _ in here}}), here == there, {{value for _, _, value in here}})
"""


def sent(folder, value):
    """A directory that is written anew."""
    folder.mkdir()
    (folder / "sent_far.py").write_text(f"VALUE = {value}\n")
    (folder / "data").write_bytes(os.urandom(3_000_000))
    return str(folder)


def test_all_hosts_have_a_copy(network, tmp_path):
    hosts = start_cluster(network)
    address = f"{hosts[0].address_of_host}:6379"

    def left():
        return [path for host in hosts for path in host.runtime.glob("ray-*/*/working_dir-*")]

    for number, host in enumerate(hosts):
        program = WORK.format(address=address, folder=sent(tmp_path / "program", number), count=3)
        assert host.run(program) == [f"3 3 True {{{number}}}"]
    eventually(lambda: left() == [])
    hosts[2].done("stop")  # from where programs run nevertheless
    program = WORK.format(address=address, folder=sent(tmp_path / "program", 7), count=2)
    assert hosts[2].run(program) == ["2 2 True {7}"]
    eventually(lambda: left() == [])
