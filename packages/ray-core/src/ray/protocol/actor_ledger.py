"""What a director writes down of the actors that it keeps: a pure machine over the control store.

Every write is one ``Commit`` that is held by the key ``director``: who does not direct any more writes nothing. The
name of an actor, and all that it takes to start it anew, are written together with the actor, and go with it.

Invariants (see the tests, which let many of them live at random):
- a name belongs to one actor at a time, and the store has no name of an actor that it does not have;
- what was said to be written is written, whatever becomes of the answers;
- of one actor one question is under way at most.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from ray.abc.control_operations import Claim, Commit, Delete, Get, Operation, Put
from ray.exceptions import ControlFullError, ControlKindError, ControlStoreError
from ray.protocol.director import DIRECTOR

ACTORS, BORN, NAMES = "actor:", "born:", "name:"
#: What is known of a dead actor is kept for so long.
DEAD_KEPT_S = 3600.0


def actor_key(actor: bytes) -> str:
    """Where the store has what is known of an actor."""
    return ACTORS + actor.hex()


def born_key(actor: bytes) -> str:
    """Where the store has what it takes to start the actor anew."""
    return BORN + actor.hex()


def name_key(namespace: str, name: str) -> str:
    """Where the store has the actor of a name. Namespaces and names may hold any character, a colon as well."""
    return f"{NAMES}{len(namespace)}:{namespace}:{name}"


class Written(msgspec.Struct, frozen=True):
    """All that was to be written of an actor up to this version is in the store."""

    actor: bytes
    version: int


class NameTaken(msgspec.Struct, frozen=True):
    """A new actor cannot have its name; nothing of it is written, or will be."""

    actor: bytes


class Failed(msgspec.Struct, frozen=True):
    """A new actor cannot be written; nothing of it is, or will be."""

    actor: bytes
    error: ControlStoreError


News: TypeAlias = Written | NameTaken | Failed


class _Page(msgspec.Struct):
    """What the store has of one actor, and is to have."""

    wanted: bytes
    version: int = 1
    #: The value at its key, as far as it is known; None: the store has nothing of it.
    known: bytes | None = None
    #: What is to be put at its other key with the next write, or None: that key stays as it is.
    born: bytes | None = None
    #: Key of its name, and what the store has there for it; both are empty where it has none, or none any more.
    name: str = ""
    named: bytes = b""
    frees: bool = False
    #: The actor that has its name, which is about to be free.
    behind: bytes = b""
    dead: bool = False
    is_new: bool = True
    is_due: bool = True
    #: The key has to be read before it is written.
    looks: bool = False
    #: (what is under way, its version), or None.
    asked: tuple[Operation[Any], int] | None = None


class ActorLedger(msgspec.Struct):
    """Of a node that directs, or did."""

    #: What the key ``director`` holds for its right.
    right: bytes = b""
    _pages: dict[bytes, _Page] = msgspec.field(default_factory=dict)
    #: {key of a name: the actor that has it, or is to have it next}
    _names: dict[str, bytes] = msgspec.field(default_factory=dict)
    #: Ids of those of which something is due and nothing under way: a dict as an ordered set.
    _due: dict[bytes, None] = msgspec.field(default_factory=dict)

    def known(self, actor: bytes, value: bytes, name: str, named: bytes) -> None:
        """The store has this of a living actor, and of its name if it has one."""
        page = _Page(value, known=value, name=name, named=named, is_new=False, is_due=False)
        self._pages[actor] = page
        if name:
            self._names[name] = actor

    def create(self, actor: bytes, value: bytes, born: bytes, name: str = "", named: bytes = b"") -> bool:
        """Have a new actor written, with its name; False: a living one has that.

        A name that is about to be free is waited for.
        """
        holder = self._names.get(name) if name else None
        if holder is not None and not self._pages[holder].frees:
            return False
        self._pages[actor] = _Page(value, born=born, name=name, named=named, behind=holder or b"")
        self._due[actor] = None
        if name:
            self._names[name] = actor
        return True

    def write(
        self, actor: bytes, value: bytes, born: bytes | None = None, *, frees: bool = False, dead: bool = False
    ) -> int:
        """Have something else written of an actor; returns the version, 0 if it is none of these.

        Args:
            actor: its id.
            value: what is to be at its key.
            born: what is to be at its other key; None: what is there.
            frees: its name is to be free.
            dead: the same, and nothing is needed to start it anew.
        """
        page = self._pages.get(actor)
        if page is None or page.dead:
            return 0
        page.wanted, page.born, page.dead = value, page.born if born is None else born, dead
        page.frees = page.frees or frees or dead
        page.version += 1
        page.is_due = True
        if page.asked is None:
            self._due[actor] = None
        return page.version

    def pending(self, actor: bytes) -> int:
        """The version of an actor that is to be written yet; 0: all is."""
        page = self._pages.get(actor)
        return page.version if page is not None and page.is_due else 0

    def ask(self) -> list[tuple[bytes, Operation[Any]]]:
        """What to ask the store for: (id of the actor, question)."""
        asked: list[tuple[bytes, Operation[Any]]] = []
        for actor in list(self._due) if self.right else ():
            page = self._pages[actor]
            if page.behind:
                holder = self._pages.get(page.behind)
                if holder is not None and holder.name == page.name:
                    continue
                page.behind = b""
            question: Operation[Any] = Get(actor_key(actor)) if page.looks else self._commit(actor, page)
            page.asked = question, page.version
            del self._due[actor]
            asked.append((actor, question))
        return asked

    def _commit(self, actor: bytes, page: _Page) -> Commit:
        claims = [Claim(actor_key(actor), page.known, page.wanted, DEAD_KEPT_S if page.dead else None)]
        writes: list[Put | Delete] = []
        if page.name and page.frees and not page.is_new:
            claims.append(Claim(page.name, page.named, None))
        elif page.name and page.is_new and not page.frees:
            claims.append(Claim(page.name, None, page.named))
        if page.dead:
            writes.append(Delete(born_key(actor)))
        elif page.born is not None:
            writes.append(Put(born_key(actor), page.born))
        return Commit(DIRECTOR, self.right, tuple(claims), tuple(writes))

    def answered(self, actor: bytes, answer: Any) -> News | None:
        """The answer to what was asked for of an actor."""
        page = self._pages.get(actor)
        if page is None or page.asked is None:
            return None
        news = self._take(actor, page, answer, *page.asked)
        page.asked = None
        if page.is_due and self._pages.get(actor) is page:
            self._due[actor] = None
        return news

    def _take(self, actor: bytes, page: _Page, answer: Any, question: Operation[Any], version: int) -> News | None:
        if isinstance(answer, ControlStoreError):
            if page.is_new and isinstance(answer, (ControlFullError, ControlKindError)):
                self._drop(actor, page)
                return Failed(actor, answer)
            page.looks = True  # it may have been done
            return None
        if not isinstance(question, Commit):
            page.looks, page.known = False, answer
            page.is_new = page.is_new and answer is None  # what is there it has written itself
            return None
        if not answer:
            return self._written(actor, page, question, version)
        if page.name in answer and not page.is_new:  # it is free already, or another one's
            self._free(actor, page)
        elif page.name in answer and actor_key(actor) not in answer:
            self._drop(actor, page)
            return NameTaken(actor)
        if actor_key(actor) in answer:
            page.looks = True
        return None

    def _written(self, actor: bytes, page: _Page, done: Commit, version: int) -> Written:
        page.known = done.claims[0].new
        named = [claim.new for claim in done.claims if claim.key == page.name]
        if page.name and (page.is_new if not named else named == [None]):  # it never had it, or has it no more
            self._free(actor, page)
        page.is_new = False
        written = {write.key: write for write in done.writes}.get(born_key(actor))
        if isinstance(written, Put) and written.value is page.born:
            page.born = None
        page.is_due = version < page.version
        if page.dead and not page.is_due:
            del self._pages[actor]
        return Written(actor, version)

    def _free(self, actor: bytes, page: _Page) -> None:
        if self._names.get(page.name) == actor:
            del self._names[page.name]
        page.name = ""

    def _drop(self, actor: bytes, page: _Page) -> None:
        self._free(actor, page)
        del self._pages[actor]
