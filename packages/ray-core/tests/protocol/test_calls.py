"""What is decided about calls to actors, without any process."""

import pytest
from tests.callers import AGAIN_S, PROCESS, Caller

from ray.messages.node import ActorUpdate, ExitCause
from ray.protocol import call_effects as effects
from ray.protocol.call_records import MANY_CALLS, MAX_AHEAD
from ray.protocol.calls import ENDED_S
from ray.protocol.fates import INTERRUPTED, RESULT_LOST, STARTED, UNKNOWN, UNSTARTED
from ray.protocol.gathering import GATHER_S
from ray.protocol.last_calls import TERMINATE_BYTES
from ray.protocol.tasks import BATCH_TASKS, LAST_WORDS_S

#: What the id of the last one started is, where that has answered all.
NONE = bytes(16)


@pytest.fixture
def caller():
    return Caller()


def running(call, **facts):
    return ExitCause(running=call.id, **facts)


def alive(caller, calls=0, **facts):
    """An actor with calls under way."""
    callee = caller.actor(concurrent=True)
    caller.hears(callee, "alive")
    callee.concurrent = False  # as many at a time as one likes, one after the other there
    made = [caller.submit(callee, **facts) for _ in range(calls)]
    caller.sent.clear()
    return callee, made


# --- order ------------------------------------------------------------------------------------------------------------


def test_calls_wait_until_the_actor_is_there_and_go_together_in_order(caller):
    callee = caller.actor()
    for _ in range(3):
        caller.submit(callee)
    caller.hears(callee, "starting")
    assert caller.sent == []
    caller.hears(callee, "alive")
    assert caller.sent == [(0, [1, 2, 3])]


def test_a_call_whose_arguments_are_not_there_holds_up_those_behind_it(caller):
    callee, _ = alive(caller)
    first = caller.submit(callee, waiting=1)
    caller.submit(callee)
    assert caller.sent == []
    first.waiting = 0
    caller.pump(callee)
    assert caller.sent == [(0, [1, 2])]


def test_where_calls_do_not_overlap_one_is_enough_to_wait_for_its_reply(caller):
    callee = caller.actor()
    caller.hears(callee, "alive")
    first, *_ = [caller.submit(callee) for _ in range(BATCH_TASKS)]
    assert caller.sent == [(0, [1])]
    caller.submit(callee)
    assert caller.sent == [(0, [1]), (0, list(range(2, BATCH_TASKS + 2)))]
    caller.submit(callee)
    caller.replied(callee, first)
    assert caller.sent[2:] == [(0, [BATCH_TASKS + 2])]


def test_where_they_overlap_they_gather_only_behind_many(caller):
    callee, _ = alive(caller, MANY_CALLS)
    caller.submit(callee)
    caller.submit(callee)
    assert caller.sent == []
    caller.passes(GATHER_S)
    assert caller.sent == [(0, [MANY_CALLS + 1, MANY_CALLS + 2])]


def test_no_more_are_under_way_than_the_window_has_room_for(caller):
    callee = caller.actor(concurrent=True)
    calls = [caller.submit(callee) for _ in range(MAX_AHEAD + 9)]
    caller.hears(callee, "alive", places=4)
    assert [len(numbers) for _, numbers in caller.sent] == [MAX_AHEAD + 4]
    caller.replied(callee, *calls[:3])
    assert caller.sent[1:] == [(0, [MAX_AHEAD + 5, MAX_AHEAD + 6, MAX_AHEAD + 7])]


def test_those_of_one_group_do_not_hold_up_those_of_another(caller):
    callee = caller.actor()
    for _ in range(MAX_AHEAD + 9):
        caller.submit(callee)
    caller.hears(callee, "alive", groups=["io"])
    assert [len(numbers) for _, numbers in caller.sent] == [MAX_AHEAD + 9]


def test_a_call_that_is_cancelled_in_the_queue_is_not_sent(caller):
    callee = caller.actor()
    first, _ = caller.submit(callee), caller.submit(callee)
    first.done = True
    caller.hears(callee, "alive")
    assert caller.sent == [(0, [2])]


def test_those_that_could_not_be_sent_go_first_but_not_from_within(caller):
    callee, (first, second) = alive(caller, 2)
    for call in (first, second):
        callee.ended(call.id)
    caller.table.unsent(callee, [first, second])
    (after,) = caller.table.out
    assert (caller.sent, after.delay_s) == ([], 0.0)
    caller.table.out.clear()
    after.then(0.0)
    caller.carry_out()
    assert caller.sent == [(0, [1, 2])]


# --- ends of processes ------------------------------------------------------------------------------------------------


def test_what_had_not_started_goes_to_the_next_process_in_order(caller):
    callee, calls = alive(caller, 5)
    caller.hears(callee, "restarting", 1, cause=running(calls[1]))
    assert caller.fates == {}  # its last words may be under way
    caller.passes(LAST_WORDS_S)
    assert caller.fates == {1: RESULT_LOST, 2: INTERRUPTED}
    caller.submit(callee)
    caller.hears(callee, "alive", 1)
    assert caller.sent == [(1, [3, 4, 5, 6])]
    assert [call.attempt for call in calls] == [0] * 5
    assert all(effect.restarts for effect in caller.ends)


def test_what_had_started_is_repeated_where_that_is_asked_for(caller):
    callee, calls = alive(caller, 3, retries=1)
    caller.hears(callee, "restarting", 1, cause=running(calls[1]))
    caller.loses(callee)
    caller.hears(callee, "alive", 1)
    assert caller.sent == [(1, [1, 2, 3])]
    assert [(call.attempt, call.retries) for call in calls] == [(1, 0), (1, 0), (0, 1)]
    caller.hears(callee, "restarting", 2, cause=running(calls[1]))
    caller.loses(callee)
    assert caller.fates == {1: RESULT_LOST, 2: INTERRUPTED}


def test_as_often_as_it_takes(caller):
    callee, (call,) = alive(caller, 1, retries=-1)
    for incarnation in range(1, 5):
        caller.hears(callee, "restarting", incarnation, cause=running(call))
        caller.loses(callee)
        caller.hears(callee, "alive", incarnation)
    assert caller.sent == [(incarnation, [1]) for incarnation in range(1, 5)]
    assert (call.attempt, call.retries) == (4, -1)


def test_one_that_has_answered_all_had_started_nothing_else(caller):
    callee, _ = alive(caller, 2)
    caller.hears(callee, "restarting", 1, cause=ExitCause(running=NONE))
    caller.loses(callee)
    caller.hears(callee, "alive", 1)
    assert caller.sent == [(1, [1, 2])]


def test_where_nothing_is_known_they_may_have_run(caller):
    callee, calls = alive(caller, 3)
    caller.hears(callee, "restarting", 1, cause=ExitCause(began=calls[1].id))
    caller.loses(callee)
    assert caller.fates == {1: STARTED, 2: STARTED, 3: UNKNOWN}


def test_side_by_side_only_the_one_that_is_named_is_known_to_have_run(caller):
    callee, calls = alive(caller, 2)
    callee.concurrent = True
    caller.hears(callee, "restarting", 1, cause=running(calls[0]))
    caller.loses(callee)
    assert caller.fates == {1: INTERRUPTED, 2: UNKNOWN}


def test_a_cancelled_one_is_neither_repeated_nor_sent_to_the_next(caller):
    callee, calls = alive(caller, 3, retries=5)
    for call in calls:
        call.cancelled = True
    caller.hears(callee, "restarting", 1, cause=running(calls[1]))
    caller.loses(callee)
    assert caller.fates == {1: RESULT_LOST, 2: INTERRUPTED, 3: "cancelled"}  # reports say of the former what this was


def test_one_that_goes_on_without_a_caller_lets_its_arguments_go(caller):
    callee, (call,) = alive(caller, 1, retries=1)
    call.done = True
    caller.hears(callee, "restarting", 1, cause=ExitCause())
    caller.loses(callee)
    assert effects.LetGo(call) in caller.told
    caller.hears(callee, "alive", 1)
    assert caller.sent == []


def test_it_may_be_the_one_that_ran(caller):
    callee, calls = alive(caller, 3)
    calls[1].done = True
    caller.hears(callee, "restarting", 1, cause=running(calls[1]))
    caller.loses(callee)
    assert caller.fates == {1: RESULT_LOST}
    caller.hears(callee, "alive", 1)
    assert caller.sent == [(1, [3])]


def test_the_death_of_an_actor_ends_all_its_calls_and_those_that_follow(caller):
    callee, calls = alive(caller, 2, retries=3)
    late = caller.submit(callee, waiting=1)
    cause = running(calls[0], reason="it is over")
    caller.hears(callee, "dead", cause=cause, error=b"")
    caller.loses(callee)
    assert caller.fates == {1: INTERRUPTED, 2: UNSTARTED, 3: UNSTARTED}
    caller.submit(callee)
    assert caller.fates[4] == UNSTARTED
    assert (callee.cause, callee.dead, late.done) == (cause, True, True)
    assert [type(effect) for effect in caller.told] == [effects.Placed, effects.Drop, effects.Placed, effects.Ended]


def test_what_its_init_has_raised_is_told_by_the_calls_that_wait(caller):
    for asked in (True, False):
        callee = caller.actor(b"actor %d" % asked)
        callee.created_here = True
        if asked:
            caller.submit(callee)
        caller.hears(callee, "dead", error=b"ValueError")
        assert caller.told[-1] == effects.Ended(callee, b"ValueError", asked)
        assert callee.error == b"ValueError"


def test_the_last_words_of_a_process_count(caller):
    callee, (first, second) = alive(caller, 2)
    caller.hears(callee, "dead", cause=running(second))
    caller.replied(callee, first)
    caller.passes(LAST_WORDS_S)
    assert caller.fates == {1: "ran", 2: INTERRUPTED}


def test_they_end_with_the_connection(caller):
    callee, _ = alive(caller, 1)
    caller.hears(callee, "restarting", 1, cause=ExitCause())
    caller.hears(callee, "alive", 1)
    assert callee.incarnation == 0
    caller.loses(callee)
    assert callee.incarnation == 1
    assert callee.connected
    caller.passes(1.0)
    assert caller.fates == {1: UNKNOWN}


def test_a_process_that_is_idle_has_no_last_words(caller):
    callee, (call,) = alive(caller, 1)
    caller.replied(callee, call)
    caller.hears(callee, "restarting", 1)
    assert not callee.connected
    assert effects.Drop(callee) in caller.told


def test_what_is_said_late_is_not_heard(caller):
    callee, _ = alive(caller, 1)
    caller.hears(callee, "alive", 1)
    caller.loses(callee)
    for state, incarnation in (("restarting", 1), ("alive", 0), ("starting", 0)):
        caller.hears(callee, state, incarnation)
    assert (callee.incarnation, callee.connected) == (1, True)
    caller.hears(callee, "dead", 1)
    caller.hears(callee, "alive", 2)
    assert callee.dead
    assert not callee.connected


def test_the_next_process_may_be_told_of_before_the_end_of_the_last(caller):
    callee, calls = alive(caller, 2)
    caller.hears(callee, "alive", 1, cause=running(calls[0]))
    caller.loses(callee)
    assert caller.fates == {1: INTERRUPTED}
    assert caller.sent == [(1, [2])]


# --- ends that actors announce ----------------------------------------------------------------------------------------


def test_what_an_actor_gives_back_goes_to_its_next_process(caller):
    callee, (first, second, third) = alive(caller, 3)
    second.cancelled = True
    caller.replied(callee, first, returned=[third, second], exiting=True)
    caller.submit(callee)
    assert caller.fates == {1: "ran", 2: "cancelled"}
    assert caller.sent == []
    caller.hears(callee, "restarting", 1, cause=ExitCause())
    caller.hears(callee, "alive", 1)
    assert caller.sent == [(1, [3, 4])]


def test_an_actor_that_takes_no_more_says_why(caller):
    callee, (first, second) = alive(caller, 2)
    late = caller.submit(callee, waiting=1)
    caller.replied(callee, first, returned=[second], reason="it has left", exiting=True)
    assert caller.fates == {1: "ran", 2: UNSTARTED, 3: UNSTARTED}
    assert caller.ends[0].cause.reason == callee.cause.reason == "it has left"
    assert late.done
    assert callee.ends


def test_one_that_was_killed_gets_no_more(caller):
    callee, (first,) = alive(caller, 1)
    caller.table.killed(callee, ActorUpdate(callee.actor_id, "alive", 7), None)  # another process, which has ended
    assert callee.window
    caller.table.killed(callee, callee.place, None)
    caller.submit(callee)
    assert caller.sent == []
    cause = ExitCause(reason="killed")
    caller.table.killed(callee, callee.place, cause)
    caller.carry_out()
    assert caller.fates == {2: UNSTARTED}  # the other one may be about to end by itself
    assert callee.cause is cause
    assert not first.done


def test_a_call_that_ends_its_actor_waits_for_those_before_it(caller):
    callee, (first, second) = alive(caller, 2)
    caller.submit(callee, method=TERMINATE_BYTES, waiting=1)
    caller.replied(callee, first)
    assert caller.sent == []
    caller.replied(callee, second)
    assert caller.sent == [(0, [3])]


def test_it_does_not_wait_for_its_own_makers(caller):
    callee, (maker,) = alive(caller, 1)
    child = caller.submit(callee, parent=maker.id)
    caller.sent.clear()
    caller.submit(callee, method=TERMINATE_BYTES, waiting=1, parent=child.id)
    assert caller.sent == [(0, [3])]


# --- connections ------------------------------------------------------------------------------------------------------


def test_a_connection_that_is_lost_while_the_actor_lives(caller):
    callee, (first, second) = alive(caller, 2)
    second.retries = 1
    caller.loses(callee)
    caller.submit(callee)
    assert (caller.sent, caller.fates) == ([], {})  # the node manager may be about to say that the process has ended
    caller.passes(ENDED_S)
    assert caller.fates == {1: UNKNOWN}
    assert caller.sent == [(0, [2, 3])]
    assert (first.done, second.attempt, second.retries) == (True, 1, 0)
    (end,) = caller.ends
    assert end.lives


def test_no_other_one_is_made_where_the_process_has_ended(caller):
    callee, _ = alive(caller, 1)
    caller.loses(callee)
    caller.hears(callee, "restarting", 1, cause=ExitCause(running=NONE))
    caller.passes(ENDED_S)
    assert not callee.connected
    assert caller.fates == {}
    assert list(callee.queue) != []


def test_nor_where_it_is_about_to_end(caller):
    callee, (call,) = alive(caller, 1)
    caller.replied(callee, returned=[call], exiting=True)
    caller.loses(callee)
    caller.passes(ENDED_S)
    assert not callee.connected


def test_limits_of_calls_end_with_their_connection(caller):
    callee, (call,) = alive(caller, 1, retries=1)
    callee.limits[call.id] = 9.0
    caller.loses(callee)
    caller.passes(ENDED_S)
    assert callee.limits == {}
    callee.limits[call.id] = 9.0
    caller.hears(callee, "restarting", 1)
    caller.loses(callee)
    assert callee.limits == {}


def test_an_actor_that_is_not_reached_is_tried_again(caller):
    callee = caller.actor()
    caller.away.add(0)
    caller.submit(callee)
    caller.hears(callee, "alive")
    caller.passes(AGAIN_S)
    assert callee.away.since == 0.0
    caller.away.clear()
    assert caller.sent == []
    caller.passes(AGAIN_S)
    assert caller.sent == [(0, [1])]
    assert callee.away is None


def test_a_call_tries_at_once_where_nobody_is_about_to(caller):
    callee = caller.actor()
    caller.away.add(0)
    caller.submit(callee)
    caller.hears(callee, "alive")
    caller.table.give_up(callee, OSError("out of reach"), caller.now)
    caller.carry_out()
    assert caller.fates == {1: "refused"}
    caller.away.clear()
    caller.submit(callee)
    assert caller.sent == []  # a timer is set
    callee.away.is_due = False
    caller.submit(callee)
    assert caller.sent == [(0, [2, 3])]


def test_an_actor_that_is_killed_repeats_nothing(caller):
    callee, (call,) = alive(caller, 1, retries=1)
    caller.table.killed(callee, callee.place, ExitCause(reason="killed"))
    assert callee.ended(call.id) is call
    caller.table.again(callee, call, caller.now)
    caller.replied(callee)
    assert caller.fates == {1: UNSTARTED}


@pytest.mark.parametrize(("ended", "fate"), [(False, UNKNOWN), (True, UNSTARTED)])
def test_what_has_answered_all_may_have_run_where_the_answers_have_not_come(caller, ended, fate):
    callee, _ = alive(caller, 1)
    caller.hears(callee, "dead", cause=ExitCause(running=NONE))
    if ended:
        caller.loses(callee)  # all that has been sent has come
    else:
        caller.passes(LAST_WORDS_S)
    assert caller.fates == {1: fate}


def test_what_has_started_none_is_believed_where_another_process_follows(caller):
    callee, _ = alive(caller, 1)
    caller.hears(callee, "restarting", 1, cause=ExitCause(running=NONE))
    caller.passes(LAST_WORDS_S)
    caller.hears(callee, "alive", 1)
    assert caller.sent == [(1, [1])]


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_what_was_interrupted_is_made_good(caller):
    callee, (first,) = alive(caller, 1)
    second = caller.submit(callee, waiting=1)
    second.waiting = 0
    caller.table.pump(callee)
    caller.table.out.clear()  # as if the call had been interrupted before it could say so
    caller.table.catch_up(caller.now)
    caller.carry_out()
    assert caller.sent == [(0, [2])]
    caller.hears(callee, "dead", cause=running(first))
    callee.is_due = True
    caller.table.catch_up(caller.now)
    caller.carry_out()
    assert caller.fates == {1: INTERRUPTED, 2: UNSTARTED}


def test_an_actor_is_forgotten_when_no_call_is_left(caller):
    callee, (call,) = alive(caller, 1)
    assert caller.table.forget(callee.actor_id) is None
    caller.replied(callee, call)
    assert caller.table.forget(callee.actor_id) is callee
    assert caller.table.forget(callee.actor_id) is None
    caller.submit(callee)
    assert caller.fates[2] == UNSTARTED
    assert "garbage" in callee.cause.reason


@pytest.mark.parametrize("sent", [False, True])
def test_an_actor_is_forgotten_though_a_call_is_left_that_nobody_waits_for(caller, sent):
    callee = alive(caller, 1)[0] if sent else caller.actor()
    call = caller.table.calls()[0] if sent else caller.submit(callee)
    caller._ended(call, "cancelled")
    assert caller.table.forget(callee.actor_id) is callee
    if sent:
        caller.replied(callee, call)  # that does no harm


def test_all_calls_are_found(caller):
    callee, (first,) = alive(caller, 1)
    second = caller.submit(callee, waiting=1)
    assert caller.table.calls() == [first, second]
    assert first.place is second.place is callee


def test_it_tells_the_story_of_a_call(caller):
    callee, (first, _) = alive(caller, 2, retries=1)
    caller.now = 3.0
    caller.hears(callee, "restarting", 1, cause=running(first))
    caller.loses(callee)
    story = caller.table.story(first.id)
    assert story[0] == "0.000000 its process 0 is alive"
    assert story[-2:] == [f"3.000000 its process has ended: {INTERRUPTED}", "it is queued"]
    assert caller.table.story(callee.actor_id)[-1] == "3.000000 its process 1 is restarting"
    assert caller.table.story(PROCESS) == []


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (lambda callee, call: callee.queue.append(call), "two places"),
        (lambda callee, call: callee.batch.update({call.id: call}), "not sent"),
        (lambda callee, call: setattr(call, "place", None), "placed elsewhere"),
        (lambda callee, call: setattr(callee, "dead", True), "dead actor"),
        (lambda callee, call: setattr(callee, "place", None), "ended process"),
        (lambda callee, call: setattr(callee, "is_due", True), "fate"),
    ],
)
def test_it_knows_what_must_hold(caller, breaks, says):
    callee, (call,) = alive(caller, 1)
    caller.table.validate()
    breaks(callee, call)
    with pytest.raises(AssertionError, match=says):
        caller.table.validate()
