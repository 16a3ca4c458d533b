"""What a thread without room has left is done by another one."""

from tests.owners import Owner

from ray.protocol.references import PENDING
from ray.runtime.owner.recovery import Recovery


def test_what_is_left_wakes_and_is_done_once():
    owner, calls = Owner(), []
    recovery = Recovery(owner.table, owner.outcomes, lambda: calls.append("wake"), lambda: calls.append("catch up"))
    assert not recovery.due
    recovery.leave()
    assert (recovery.due, calls) == (True, ["wake"])
    recovery.run()
    assert (recovery.due, calls) == (False, ["wake", "catch up"])


def test_submissions_that_were_cut_short_are_taken_back():
    owner = Owner()
    recovery = Recovery(owner.table, owner.outcomes, lambda: None, lambda: None)
    cut, sent = owner.record(), owner.submit()
    argument = owner.table.own(bytes(20))
    owner.table.pin((argument,))
    cut.pins = (argument,)
    owner.leasing.granted(_granted(owner))  # the other one is with a worker by now
    for record in (cut, sent):
        recovery.cut_short(record)
    recovery.run()
    assert cut.done
    assert argument.pins == 0
    assert list(owner.table.dropped)[-1] is cut.entries[0]
    assert not sent.done
    assert sent.entries[0].status == PENDING


def _granted(owner):
    from ray.messages import node

    return node.Granted(owner.said(node.Demand)[0].key, b"lease", "w", 1, [], b"w")
