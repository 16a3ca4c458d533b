"""The ends of jobs whose workers on several nodes have had each other's help."""

from __future__ import annotations

from pathlib import Path

import ray
from ray.testing import eventually, inside


@ray.remote
def there(name, then=None):
    return ray.get(there.options(num_cpus=0, resources={then: 1}).remote(name)) if then else name


@ray.remote
class Far:
    def ask(self, name):
        return ray.get(there.options(num_cpus=0, resources={name: 1}).remote(name))


def jobs(cluster):
    """What the nodes keep of jobs."""
    dirs = [node.started.session_dir for node in cluster.nodes]
    return [str(path) for each in dirs for path in Path(each).glob("job-*")]


def test_nodes_that_have_lent_each_other_workers_let_go(cluster):
    cluster.add_node(num_cpus=1, resources={"third": 4})
    cluster.wait_for_nodes()
    with ray.init(cluster.address):
        both = [
            there.options(num_cpus=0, resources={"far": 1}).remote("a", "third"),
            there.options(num_cpus=0, resources={"third": 1}).remote("b", "far"),
        ]
        assert ray.get(both, timeout=30) == ["a", "b"]
        assert len(jobs(cluster)) == 3
        inside.settled()
    eventually(lambda: jobs(cluster) == [])


def test_detached_actors_keep_what_they_need_until_they_end(cluster):
    cluster.add_node(num_cpus=1, resources={"third": 4})
    cluster.wait_for_nodes()
    kept = {"lifetime": "detached", "num_cpus": 0}
    with ray.init(cluster.address):
        made = ray.remote(lambda: Far.options(name="kept", resources={"third": 1}, **kept).remote() and None)
        ray.get(made.options(num_cpus=0, resources={"far": 1}).remote(), timeout=30)
        actor = ray.get_actor("kept")
        assert ray.get(actor.ask.remote("far"), timeout=30) == "far"
    with ray.init(cluster.address):
        actor = ray.get_actor("kept")
        assert ray.get(actor.ask.remote("far"), timeout=30) == "far"
        ray.kill(actor)
        del actor
        inside.settled()
    eventually(lambda: jobs(cluster) == [])
