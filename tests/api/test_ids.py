"""Ids name the node and the process that they are of; those of two sessions never meet."""

from __future__ import annotations

from typing import Any

import pytest

import ray
from ray import cloudpickle
from ray.exceptions import RayConnectionError
from ray.ids import ProcessIds, embedded_node, make_task_ids


@ray.remote
def whose() -> tuple[str, str, str, Any]:
    context = ray.get_runtime_context()
    return context.node_id, context.get_worker_id(), context.get_task_id(), ray.put(1)


@ray.remote
def take(value: Any) -> None:
    pass


@ray.remote
class Keeper:
    def whose(self) -> tuple[str, str, str, str]:
        context = ray.get_runtime_context()
        return context.node_id, context.get_worker_id(), context.get_task_id(), context.get_actor_id()


def ids_of_a_session() -> set[str]:
    """Ids that a session has made, each of which names its node and its process."""
    with ray.init(num_cpus=2, log_to_driver=False):
        driver = ray.get_runtime_context().get_worker_id()
        node, worker, task, made = ray.get(whose.remote(), timeout=20)
        of_worker = ray.get(whose.remote(), timeout=20)[3].hex()
        actor_node, host, call, actor = ray.get(Keeper.remote().whose.remote(), timeout=20)
        mine = ray.put(1).hex()
        assert [each["NodeID"] for each in ray.nodes()] == [node] == [actor_node]
        assert int(node, 16) >= 1 << 31
        assert len(node) == 8
        assert {len(process) for process in (driver, worker, host)} == {16}
        assert all(each.startswith(node) for each in (driver, worker, host))
        assert all(each.startswith(driver) for each in (task, call, actor, mine))
        assert made.hex().startswith(worker)
        assert len({driver, worker, host}) == 3
        return {node, driver, worker, host, task, call, actor, mine, made.hex(), of_worker}


@pytest.mark.timeout(300)
def test_no_two_sessions_have_an_id_in_common(rounds: Any) -> None:
    seen: set[str] = set()
    for _ in range(rounds(3, 50)):
        ids = ids_of_a_session()
        assert len(ids) == 10
        assert not ids & seen
        seen |= ids


def test_no_two_of_a_thousand_sessions_have_an_id_in_common() -> None:
    """With twenty processes each; of a number that two nodes draw, their processes make no trouble."""
    seen: set[bytes] = set()
    for _ in range(1_000):
        give = ProcessIds(embedded_node()).give
        tasks = {make_task_ids(give())() for _ in range(20)}
        assert len(tasks) == 20
        assert not tasks & seen
        seen |= tasks


def test_a_ref_of_an_ended_session_reads_nothing_of_the_next() -> None:
    with ray.init(num_cpus=1, log_to_driver=False):
        refs = [ray.put("mine"), whose.remote()]
        ray.get(refs, timeout=20)
        pickled = [cloudpickle.dumps(ref) for ref in refs]
    with ray.init(num_cpus=1, log_to_driver=False):
        others = [ray.put("another"), whose.remote()]
        refs += [cloudpickle.loads(data) for data in pickled]
        assert not {ref.binary() for ref in refs} & {ref.binary() for ref in others}
        for ref in refs:
            for use in (ray.get, lambda ref: ray.wait([ref]), take.remote, lambda ref: take.remote([ref])):
                with pytest.raises(RayConnectionError, match="belongs to a session that has ended"):
                    use(ref)


@pytest.mark.parametrize("before", [True, False], ids=["local_before", "local_after"])
def test_a_handle_of_an_ended_session_has_nothing_called_in_the_next(before: bool) -> None:
    """Whichever of them is local mode."""
    with ray.init(num_cpus=1, log_to_driver=False, local_mode=before):
        actor = Keeper.remote()
        assert ray.get(actor.whose.remote(), timeout=20)
    with ray.init(num_cpus=1, log_to_driver=False, local_mode=not before):
        for use in (lambda: actor.whose.remote(), lambda: take.remote(actor), lambda: ray.kill(actor)):
            with pytest.raises(RayConnectionError, match="belongs to a session that has ended"):
                use()
        assert ray.get(Keeper.remote().whose.remote(), timeout=20)
