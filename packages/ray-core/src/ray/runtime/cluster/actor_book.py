"""A director's book of the actors that it keeps, in the control store. It never waits."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import msgspec

from ray.abc.control import ControlStore
from ray.abc.control_operations import Get, Keys
from ray.exceptions import ControlKindError, ControlStoreError, ControlTimeoutError
from ray.messages.cluster import BornActor, KeptActor
from ray.protocol.actor_ledger import ACTORS, ActorLedger, Failed, NameTaken, Written, actor_key, born_key, name_key
from ray.protocol.director import AGAIN_S
from ray.runtime.cluster.names import encode_named
from ray.runtime.cluster.sealing import Seal
from ray.runtime.process.timers import Timers

#: What has no answer after so long is asked again.
_ANSWER_S = 2.0

#: Other keys that begin so somebody else has written.
_KEY = re.compile(f"{ACTORS}([0-9a-f]{{2}})+")

#: Why a name cannot be had.
TAKEN = "taken"

#: Takes all actors that are on record, and of the living ones what it takes to start them.
OnRead: TypeAlias = Callable[[list[tuple[KeptActor, BornActor | None]]], None]

_encode = msgspec.msgpack.Encoder().encode
_decode_kept = msgspec.msgpack.Decoder(KeptActor).decode
_decode_born = msgspec.msgpack.Decoder(BornActor).decode


class ActorBook:
    """Of a node manager that directs, or wants to."""

    def __init__(
        self,
        control: ControlStore,
        seal: Seal,
        timers: Timers,
        right: Callable[[], bytes],
        timeout_s: float,
        say: Callable[[str], None],
    ) -> None:
        """Nothing is written yet.

        Args:
            control: the state of record.
            seal: of the cluster.
            timers: of this node manager.
            right: what the key ``director`` holds for this node's right to direct; empty: it may not.
            timeout_s: how long a store is waited for that does not answer.
            say: for what has to be looked into.
        """
        self._control = control
        self._seal = seal
        self._timers = timers
        self._right = right
        self._timeout_s = timeout_s
        #: So that what waits for a store has heard of it why.
        self._answer_s = min(_ANSWER_S, timeout_s / 3)
        self._say = say
        self._ledger = ActorLedger()
        #: {actor id: [(version, what is called once that is written)]}
        self._waiting: dict[bytes, list[tuple[int, Callable[[], None]]]] = {}
        #: {new actor that is not written yet: who is told what becomes of that: why not, and whether it may come}
        self._new: dict[bytes, Callable[[str, bool], None]] = {}
        self._armed = False
        #: What the store has said last, where that was no answer.
        self._trouble = ""

    # --- writing ------------------------------------------------------------------------------------------------------

    def create(self, born: BornActor, on_done: Callable[[str, bool], None]) -> None:
        """Have a new actor written, with its name if it has one.

        Args:
            born: the actor.
            on_done: told why it cannot be, or an empty text; and whether that is for want of a store.
        """
        spec = born.spec
        kept = KeptActor(
            spec.id, class_name=spec.class_name, name=spec.name, namespace=spec.namespace, owner=spec.address
        )
        key = name_key(spec.namespace, spec.name) if spec.name else ""
        named = self._named(key, spec.id, spec.handle) if key else b""
        self._new[spec.id] = on_done
        if self._ledger.create(spec.id, self._value(kept), self._born(born), key, named):
            self._timers.after(self._timeout_s, lambda: self._give_up(kept, on_done))
            self.turn()
        else:
            self._created(spec.id, TAKEN)

    def _give_up(self, kept: KeptActor, on_done: Callable[[str, bool], None]) -> None:
        if self._new.get(kept.id) is on_done:
            self.write(msgspec.structs.replace(kept, dead=True))
            self._created(kept.id, self._trouble or "it has not done what it was asked for", lacks=True)

    def _created(self, actor: bytes, problem: str = "", *, lacks: bool = False) -> None:
        on_done = self._new.pop(actor, None)
        if on_done is not None:
            on_done(problem, lacks)

    def write(self, kept: KeptActor, then: Callable[[], None] | None = None, born: BornActor | None = None) -> None:
        """Have written what has become of an actor; ``then`` is called once that is so."""
        what = None if born is None else self._born(born)
        self._ledger.write(kept.id, self._value(kept), what, frees=bool(kept.exiting), dead=kept.dead)
        if then is not None:
            self.when_written(kept.id, then)
        self.turn()

    def when_written(self, actor: bytes, then: Callable[[], None]) -> None:
        """Call ``then`` once all is written that is to be written of an actor so far."""
        version = self._ledger.pending(actor)
        if version:
            self._waiting.setdefault(actor, []).append((version, then))
        else:
            then()

    def turn(self) -> None:
        """Ask the store for what is due."""
        self._ledger.right = self._right()
        for actor, question in self._ledger.ask():
            self._control.ask(question, partial(self._answered, actor), timeout_s=self._answer_s)

    def _answered(self, actor: bytes, answer: Any) -> None:
        news = self._ledger.answered(actor, answer)
        self._trouble = ""
        if isinstance(answer, ControlStoreError):
            self._trouble = answer.trouble if isinstance(answer, ControlTimeoutError) else answer.reason
        if isinstance(news, Written):
            self._created(actor)
            waiting = self._waiting.pop(actor, [])
            later = [each for each in waiting if each[0] > news.version]
            if later:
                self._waiting[actor] = later
            for version, then in waiting:
                if version <= news.version:
                    then()
        elif isinstance(news, NameTaken | Failed):
            self._created(actor, TAKEN if isinstance(news, NameTaken) else news.error.reason)
            for _, then in self._waiting.pop(actor, ()):  # nothing is to be written of it any more
                then()
        elif answer is not None and not isinstance(answer, bytes):  # what it was is asked for in a moment
            self._again()
            return
        self.turn()

    def _again(self) -> None:
        if not self._armed:
            self._armed = True
            self._timers.after(AGAIN_S, self._turn_again)

    def _turn_again(self) -> None:
        self._armed = False
        self.turn()

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, on_read: OnRead) -> None:
        """Read what earlier directors have left: all actors, and of the living ones what it takes to start them."""
        _Reading(self._control, self._timers, partial(self._take, on_read)).begin()

    def _take(
        self,
        on_read: OnRead,
        found: dict[bytes, tuple[bytes, bytes]],
    ) -> None:
        known: list[tuple[KeptActor, BornActor | None]] = []
        for actor, (value, other) in found.items():
            content, born = self._seal.open(actor_key(actor), value), self._seal.open(born_key(actor), other)
            if content is None or (other and born is None):
                self._say(f"the record of actor {actor.hex()} was not written by this cluster, and is not used")
                continue
            kept, what = _decode_kept(content), None if born is None else _decode_born(born)
            known.append((kept, what))
            if not kept.dead:
                name = "" if kept.exiting or not kept.name else name_key(kept.namespace, kept.name)
                named = self._named(name, actor, what.spec.handle) if name and what is not None else b""
                self._ledger.known(actor, value, name, named)
        on_read(known)

    # --- how it is written --------------------------------------------------------------------------------------------

    def _value(self, kept: KeptActor) -> bytes:
        return self._seal.seal(actor_key(kept.id), _encode(kept))

    def _born(self, born: BornActor) -> bytes:
        return self._seal.seal(born_key(born.spec.id), _encode(born))

    def _named(self, key: str, actor: bytes, handle: bytes) -> bytes:
        return self._seal.seal(key, encode_named((actor, handle)))


class _Reading:
    """Reads all that the store has of actors, and begins again where it does not answer."""

    def __init__(
        self,
        control: ControlStore,
        timers: Timers,
        on_read: Callable[[dict[bytes, tuple[bytes, bytes]]], None],
    ) -> None:
        self._control = control
        self._timers = timers
        self._on_read = on_read
        self._found: dict[bytes, tuple[bytes, bytes]] = {}
        self._left = 0

    def begin(self) -> None:
        self._control.ask(Keys(ACTORS), self._listed, timeout_s=_ANSWER_S)

    def _listed(self, keys: Sequence[str] | ControlStoreError) -> None:
        if isinstance(keys, ControlStoreError):
            self._timers.after(AGAIN_S, self.begin)
            return
        self._found = {}
        actors = [bytes.fromhex(key.removeprefix(ACTORS)) for key in keys if _KEY.fullmatch(key)]
        self._left = len(actors)
        for actor in actors:
            self._get(actor)
        if not actors:
            self._on_read({})

    def _get(self, actor: bytes) -> None:
        """Read one, until there is an answer."""
        values: list[bytes] = []

        def got(value: bytes | ControlStoreError | None) -> None:
            if isinstance(value, ControlStoreError) and not isinstance(value, ControlKindError):
                self._timers.after(AGAIN_S, lambda: self._get(actor))
                return
            values.append(value if isinstance(value, bytes) else b"")
            if len(values) < 2:
                self._control.ask(Get(born_key(actor)), got, timeout_s=_ANSWER_S)
                return
            if values[0]:
                self._found[actor] = values[0], values[1]
            self._left -= 1
            if not self._left:
                self._on_read(self._found)

        self._control.ask(Get(actor_key(actor)), got, timeout_s=_ANSWER_S)
