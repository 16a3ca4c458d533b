"""The table of calls through random lives of an actor: every call ends once, none runs more often than it may, all in
the order in which they were submitted."""

import random
from collections import Counter, deque

import pytest
from tests.callers import PROCESS, Caller

from ray.messages.node import ActorUpdate, ExitCause
from ray.protocol.calls import ENDED_S
from ray.protocol.fates import INTERRUPTED, RESULT_LOST, STARTED, UNSTARTED
from ray.protocol.tasks import LAST_WORDS_S

SEEDS, EVENTS = 320, 160
NONE = bytes(16)
#: How many calls a concurrent actor runs at a time.
PLACES = 4


class Process:
    """One process of the actor, and the connection to it."""

    def __init__(self, incarnation):
        self.incarnation = incarnation
        #: Calls that have come and have not begun.
        self.inbox = deque()
        self.running = []
        #: Results that are not sent yet.
        self.outbox = []
        #: The last one begun.
        self.last = NONE
        self.alive = True
        self.exiting = False


class Life(Caller):
    """Lets things happen, and keeps its own books."""

    def __init__(self, seed):
        super().__init__()
        self.rng = random.Random(seed)
        self.callee = self.actor(concurrent=self.rng.random() < 0.4)
        self.is_concurrent = self.callee.concurrent
        self.restarts = self.rng.choice([0, 2, 5, 99])
        self.process = None
        #: What the caller has a connection to, what has come by it and is not taken, and what went by it.
        self.link, self.pipe, self.went = None, deque(), []
        #: What the node manager has said and has not come.
        self.news = deque()
        self.said = []
        self.calls = []
        self.starts = Counter()
        #: Those whose answers may be lost, as a connection was.
        self.doubtful = set()
        self.is_over = False

    # --- the actor ----------------------------------------------------------------------------------------------------

    def connected(self, callee):
        assert callee.place.incarnation == self.process.incarnation or not callee.inflight
        self.link = self.process if callee.place.incarnation == self.process.incarnation else Process(-1)
        self.pipe, self.went = deque(), []

    def push(self, callee, calls):
        for call in calls:
            assert callee.inflight[call.id] is call
            if not call.attempt and call.number not in self.went_back:
                assert not self.went or self.went[-1] < call.number, "out of order"
                self.went.append(call.number)
        if self.link.alive:
            self.link.inbox.extend(calls)

    went_back: frozenset = frozenset()

    def start(self):
        process = self.process
        if process is None or not process.alive or process.exiting or not process.inbox:
            return
        if len(process.running) < (PLACES if self.is_concurrent else 1):
            call = process.inbox.popleft()
            process.last = call.id
            process.running.append(call)
            self.starts[call.number] += 1
            if call.number not in self.doubtful:
                assert self.starts[call.number] <= call.attempt + 1, "it runs once more, and was not to"

    def finish(self):
        process = self.process
        if process is not None and process.alive and process.running:
            call = process.running.pop(self.rng.randrange(len(process.running)))
            process.outbox.append(call)
            if self.rng.random() < 0.7:
                self.flush()

    def flush(self):
        process = self.process
        if process is self.link and process.outbox:
            self.pipe.append(("ended", process.outbox, [], False))
        elif process.outbox:
            self.doubtful.update(call.number for call in process.outbox)
        process.outbox = []

    def die(self):
        process = self.process
        if process is None or not process.alive:
            return
        busy = process.running or process.outbox
        running = process.last if busy else NONE
        if self.is_concurrent and busy:
            running = self.rng.choice([b"", *[call.id for call in process.running]])
        process.alive = False
        self.process.exiting = False
        if process is self.link:
            self.pipe.append(("lost", [], [], False))
        cause = ExitCause(running=running if self.rng.random() < 0.8 else b"")
        self.follows(cause)

    def follows(self, cause):
        self.restarts -= 1
        incarnation = self.process.incarnation + 1
        if self.restarts < 0:
            self.says("dead", self.process.incarnation, cause=cause)
            self.is_over = True
        else:
            self.process = Process(incarnation)
            self.process.alive = False  # not yet
            self.says("restarting", incarnation, cause=cause)

    def says(self, state, incarnation, **facts):
        self.news.append(ActorUpdate(self.callee.actor_id, state, incarnation, concurrent=self.is_concurrent, **facts))

    def begin(self):
        if self.process is None:
            self.process = Process(0)
        elif self.process.alive or self.is_over or self.process.last is not NONE:
            return
        self.process.alive = True
        self.says("alive", self.process.incarnation)

    def exit(self):
        """It ends by itself when what it runs has ended, and gives the rest back."""
        process = self.process
        if process is None or process is not self.link or not process.alive or process.exiting:
            return
        process.exiting = True
        back, process.inbox = list(process.inbox), deque()
        self.pipe.append(("ended", [], back, True))

    def breaks(self):
        """The connection, while the actor lives: what is on its way is lost."""
        if self.link is None or not self.link.alive or not self.callee.connected:
            return
        self.doubtful.update(call.number for call in self.callee.inflight.values())
        while self.pipe and self.rng.random() < 0.5:
            self.take()
        if self.callee.connected:
            self.link.inbox.clear()
            self.link, self.pipe = None, deque()
            self.loses(self.callee)

    # --- the caller ---------------------------------------------------------------------------------------------------

    def take(self):
        """What has come by the connection."""
        if not self.pipe:
            return
        kind, ended, back, exiting = self.pipe.popleft()
        if not self.callee.connected or self.link.incarnation != self.callee.place.incarnation:
            return  # dropped
        if kind == "lost":
            self.link = None
            self.loses(self.callee)
        else:
            self.went_back |= {call.number for call in back}
            self.replied(self.callee, *ended, returned=back, exiting=exiting)

    def hear(self):
        if not self.news:
            return
        update = self.news.popleft()
        self.said.append(update)
        if self.rng.random() < 0.2:  # what was said before comes again
            self.heard(self.rng.choice(self.said))
        self.heard(update)

    def heard(self, update):
        dead = self.callee.dead
        self.table.updated(update, self.now)
        self.carry_out()
        assert not dead or self.callee.dead

    def time(self, seconds):
        while self.pipe:  # the last words come in time
            self.take()
        self.passes(seconds)

    def call(self):
        rng = self.rng
        retries = rng.choice([0, 0, 0, 1, -1])
        self.calls.append(self.submit(self.callee, retries=retries, waiting=rng.random() < 0.1))

    def argument(self):
        waiting = [call for call in self.callee.queue if call.waiting]
        if waiting:
            self.rng.choice(waiting).waiting = 0
            self.pump(self.callee)

    def cancel(self):
        """One that was not sent; or the caller gives one up, or cancels it, that may run."""
        mine = [call for call in self.table.calls() if not call.done]
        if not mine:
            return
        call = self.rng.choice(mine)
        if call in self.callee.queue:
            self._ended(call, "cancelled")
            self.pump(self.callee)
        elif self.rng.random() < 0.5:
            self._ended(call, "given up")
        else:
            call.cancelled = True

    def step(self):
        rng = self.rng
        events = [
            (self.call, 12), (self.start, 12), (self.finish, 10), (self.take, 12), (self.hear, 6), (self.begin, 5),
            (self.argument, 3), (self.cancel, 1), (self.die, 1), (self.exit, 0.5), (self.breaks, 0.7),
            (lambda: self.time(rng.choice([0.001, 0.01, LAST_WORDS_S, ENDED_S])), 4),
            (lambda: self.process and self.process.exiting and not self.process.running and self.settle(), 3),
            (lambda: self.away.symmetric_difference_update({rng.randrange(3)}), 0.3),
        ]  # fmt: skip
        rng.choices([event for event, _ in events], [weight for _, weight in events])[0]()
        self.check()

    def settle(self):
        self.flush()
        self.die()

    # --- what must hold -----------------------------------------------------------------------------------------------

    def check(self):
        self.table.validate()
        known = {call.number for call in self.table.calls()}
        for call in self.calls:
            assert call.done == (call.number in self.fates)
            assert call.done or call.number in known, f"call {call.number} is lost"

    def wind_down(self):
        self.away.clear()
        for _ in range(3000):
            if self.is_over and not self.news and not self.table.calls():
                break
            for event in (self.begin, self.hear, self.take, self.start, self.finish, self.argument):
                event()
                self.check()
            if self.process is not None and self.process.alive:
                self.flush()
                if self.process.exiting and not self.process.running:
                    self.settle()
            self.time(0.1)
            if all(call.done for call in self.calls) and not self.is_over:
                self.restarts = 0
                self.die()
        assert all(call.done for call in self.calls), "a call never ends"
        assert self.table.calls() == []
        for call in self.calls:
            fate, starts = self.fates[call.number], self.starts[call.number]
            if fate in (RESULT_LOST, INTERRUPTED, STARTED, "ran"):
                assert starts, fate
            elif fate == UNSTARTED and call.number not in self.doubtful:
                assert starts <= call.attempt, "it is said not to have started"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("block", [*range(3), *(pytest.param(block, marks=pytest.mark.slow) for block in range(3, 8))])
def test_a_random_life_ends_every_call_once(block):
    for seed in range(block, SEEDS, 8):
        life = Life(seed)
        assert PROCESS == b"process1"
        try:
            for life.event in range(EVENTS):
                life.step()
            life.wind_down()
        except Exception as error:
            error.add_note(f"seed {seed}, event {life.event}")
            raise
